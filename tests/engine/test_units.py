"""Units on an actor: one after the other, the files of one written while the next is made, failures told."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.artifacts import Units
from fairsynth.engine.failures import unpacked
from fairsynth.engine.units import MOST_BLOCKS, _blocks, _drained, _UnitActor
from fairsynth.errors import DataError


class Slow:
    """Two parts, the second of which is done by a thread; ``calls`` are the parts in the order of the calls."""

    def __init__(self, seconds: float = 0.0, broken: str = "", part: str = "") -> None:
        self.seconds, self.broken, self.part, self.calls = seconds, broken, part, list[str]()
        self.threads = ThreadPoolExecutor(1)

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        return self.finish(self.begin(task))

    def begin(self, task: Mapping[str, Any]) -> tuple[str, Future[None]]:
        self._work("begin", task["name"])
        return task["name"], self.threads.submit(time.sleep, self.seconds)

    def finish(self, begun: tuple[str, Future[None]]) -> dict[str, pa.Table]:
        name, written = begun
        written.result()
        self._work("finish", name, 0.0)
        return {"t": pa.table({"name": [name]})}

    def _work(self, part: str, name: str, share: float = 1.0) -> None:
        if (name, part) == (self.broken, self.part):
            raise DataError(f"{part} of {name} failed")
        time.sleep(self.seconds * share)
        self.calls.append(f"{part} {name}")


class Whole:
    """The same in one part."""

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        return {"t": pa.table({"name": [task["name"]], "more": [task.get("more", 0)], "size": [task["a"].size]})}


def ran(actor: _UnitActor, names: list[str], **more: Any) -> list[str]:
    """Failures of a call with these units, those that are none left out."""
    rows = list(actor({"name": np.array(names), **more}))
    assert all(set(row) == {"began", "worker", "failure"} and row["worker"][0] == actor.name for row in rows)
    return [row["failure"][0] for row in rows if row["failure"][0]]


def test_each_unit_is_begun_before_the_one_before_it_is_finished(tmp_path: Path) -> None:
    work = Slow()
    assert ran(_UnitActor(lambda: work, Units(tmp_path), 0), ["a", "b", "c"]) == []
    assert work.calls == ["begin a", "begin b", "finish a", "begin c", "finish b", "finish c"]
    assert Units(tmp_path).done() == {"a", "b", "c"}


class Patient(Slow):
    """The files of a unit are written only once the next unit is being made: one after the other it would never end."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.overlapped = dict[str, Event](), list[bool]()

    def begin(self, task: Mapping[str, Any]) -> tuple[str, Future[None]]:
        name, after = task["name"], chr(ord(task["name"]) + 1)
        self.begun.setdefault(name, Event()).set()
        next_one = self.begun.setdefault(after, Event())
        return name, self.threads.submit(lambda: self.overlapped.append(next_one.wait(0.5 if name == "d" else 20)))


def test_files_are_written_while_the_next_images_are_made(tmp_path: Path) -> None:
    work = Patient()
    assert ran(_UnitActor(lambda: work, Units(tmp_path), 0), list("abcd")) == []
    assert work.overlapped == [True, True, True, False]  # nothing comes after d
    assert Units(tmp_path).done() == {*"abcd"}


def test_what_was_made_already_is_not_made_again(tmp_path: Path) -> None:
    work = Slow()
    actor = _UnitActor(lambda: work, Units(tmp_path), 0)
    ran(actor, ["b"])
    ran(actor, ["a", "b", "c"])
    assert work.calls[2:] == ["begin a", "finish a", "begin c", "finish c"]


@pytest.mark.parametrize("part", ["begin", "finish"])
@pytest.mark.parametrize("broken", ["a", "b", "c"])
def test_a_unit_that_fails_is_told_and_the_others_are_kept(tmp_path: Path, part: str, broken: str) -> None:
    failures = ran(_UnitActor(lambda: Slow(broken=broken, part=part), Units(tmp_path), 0), ["a", "b", "c"])
    assert len(failures) == 1
    error = unpacked("synthesize", failures[0])
    assert isinstance(error, DataError) and f"{part} of {broken} failed" in str(error)
    assert Units(tmp_path).done() == {"a", "b", "c"} - {broken}


def test_work_in_one_part_gets_what_was_prepared_for_it(tmp_path: Path) -> None:
    more = json.dumps({"more": 7, "_empty": {}})
    actor = _UnitActor(Whole, Units(tmp_path), 0)
    assert ran(actor, ["a"], json=np.array([more]), a=np.zeros((1, 3))) == []
    empty = json.dumps({"_empty": {"a": [[0, 3], "uint8"]}})
    assert ran(actor, ["b"], json=np.array([empty])) == []
    rows = [pq.read_table(tmp_path / name / "t.parquet").to_pylist() for name in "ab"]
    assert rows == [[{"name": "a", "more": 7, "size": 3}], [{"name": "b", "more": 0, "size": 0}]]


def test_work_that_cannot_be_built_fails_every_unit(tmp_path: Path) -> None:
    def broken() -> Whole:
        raise DataError("no model")

    failures = ran(_UnitActor(broken, Units(tmp_path), 0), ["a", "b"])
    assert failures and all("no model" in str(unpacked("embed", failure)) for failure in failures)
    assert Units(tmp_path).done() == set()


@pytest.mark.parametrize(
    ("pending", "workers", "per_call", "sizes"),
    [
        (0, 2, 4, []),
        (1, 2, 4, [1]),
        (7, 2, 4, [1] * 7),
        (20, 2, 4, [4, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1]),
        (40, 8, 1, [1] * 40),
        (24, 1, 8, [8, 8, 4, 2, 1, 1]),
    ],
)
def test_units_are_handed_out_a_few_at_a_time_and_singly_at_the_end(
    pending: int, workers: int, per_call: int, sizes: list[int]
) -> None:
    names = [f"{i}" for i in range(pending)]
    blocks = _blocks(names, workers, per_call)
    assert [len(block) for block in blocks] == sizes
    assert [name for block in blocks for name in block] == names


@pytest.mark.parametrize(("pending", "workers", "per_call"), [(9999, 8, 4), (100_000, 64, 1), (3000, 2, 8)])
def test_very_many_units_make_few_blocks(pending: int, workers: int, per_call: int) -> None:
    names = [f"{i}" for i in range(pending)]
    blocks = _blocks(names, workers, per_call)
    assert [name for block in blocks for name in block] == names
    assert len(blocks) <= MOST_BLOCKS + 20 * workers
    assert {len(block) for block in blocks[-2 * workers :]} == {1}


class Drained:
    """A dataset whose rows say when their workers began, by clocks that differ from this one's by so many seconds."""

    def __init__(self, skews: Mapping[str, float]) -> None:
        self.rows = [{"worker": name, "began": time.time() + skew, "failure": ""} for name, skew in skews.items()]

    def iter_rows(self) -> list[dict[str, Any]]:
        return self.rows


# Fault case 60: clocks differ, or jump.
def test_start_up_takes_neither_less_than_no_time_nor_more_than_has_passed_whatever_the_workers_clocks_say() -> None:
    now = time.time()
    assert _drained("embed", Drained({"late": -3600}), now, lambda began: None) == 0
    assert 0 <= _drained("embed", Drained({"early": 3600}), now, lambda began: None) < 60
    # A worker whose clock is wrong takes nothing from the others' seconds.
    both = _drained("embed", Drained({"late": -3600, "right": 0}), now - 10, lambda began: None)
    assert both == pytest.approx(5, abs=2)
