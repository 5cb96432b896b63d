"""Rounds of images: the same rows, verdicts and pixels in a loop and on Ray, however many actors, batches and lost actors."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairsynth.artifacts import Artifact, Identity
from fairsynth.config import FilterConfig, ResourcesConfig, SynthesizeConfig
from fairsynth.engine.session import session_of
from fairsynth.engine.units import run_units
from fairsynth.groups import Group
from fairsynth.stages.synthesize import rounds as module
from fairsynth.stages.synthesize.generate import SEEN, GenerateUnit
from fairsynth.stages.synthesize.image_plan import SCHEMA
from fairsynth.stages.synthesize.output import ACCEPTED
from fairsynth.stages.synthesize.rounds import EMPTY, UNITS_PER_CALL, Rounds, depicts_its_group, read_units, write_table
from fairsynth.work import Ran, run_local, write_tables
from tests.support.synthesize.worlds import MODELS, PNG, SAMPLING, SOURCES, A, B, C, World, world

__all__ = ["world"]
QUOTA = {A: 13, B: 6, C: 3}
FILTER = FilterConfig(keep=0.75, min_probability=0.9, max_rounds=2)
# What may differ in the last digits: sums in another order.
ROUNDED = ("text_score", "centroid_score", "label_probability", "attribute_probability", "copy_score")
# And what tells how the work was cut, or of pixels that differ by 1/255.
CUT = ("unit", "sha256", "phash", "look")


class KilledOnce:
    """Dies like a lost machine in its first unit, once for all actors; works as planned after that."""

    def __init__(self, make: Callable[[], GenerateUnit], mark: Path) -> None:
        self.work, self.mark = make(), mark

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        try:
            self.mark.touch(exist_ok=False)
        except FileExistsError:
            return self.work(task)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass(frozen=True)
class Made:
    """A run: row by image_id, verdict by image_id, pixels by image_id."""

    rows: dict[str, dict[str, Any]]
    verdicts: dict[str, str]
    pixels: dict[str, NDArray[np.uint8]]


def run(world: World, folder: Path, workers: int, unit_size: int, killed: bool = False) -> Made:
    """Two rounds on Ray; without workers in a plain loop."""
    artifact = Artifact(folder, Identity("synthesize", 1, {}, {}))
    artifact.open()

    def make(plan: Path) -> Callable[[], Any]:
        work = partial(GenerateUnit, MODELS, SAMPLING, plan, world.adapters, world.references, PNG)
        return partial(KilledOnce, work, folder / "killed") if killed else work

    with session_of(ResourcesConfig(workers=workers or None)) as session:
        units = artifact.units()
        loop, ray = partial(run_local, units), partial(run_units, session, "synthesize", units, per_call=UNITS_PER_CALL)
        rounds = Rounds(
            ray if workers else loop, artifact, SynthesizeConfig(unit_size=unit_size), FILTER, 0, make, 0.95
        )
        images, verdict = rounds.until_full(QUOTA, SOURCES)
    assert not killed or (folder / "killed").exists()
    ids = images["image_id"].to_pylist()
    return Made(
        dict(zip(ids, images.to_pylist(), strict=True)),
        dict(zip(ids, verdict.to_pylist(), strict=True)),
        dict(_pixels(artifact)),
    )


def _pixels(artifact: Artifact) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for unit in artifact.units().done():
        table = pq.read_table(artifact.units()[unit] / "images.parquet", columns=["image_id", "file"])
        for row in table.to_pylist():
            yield row["image_id"], np.asarray(Image.open(io.BytesIO(row["file"])))


@pytest.fixture(scope="module")
def plain(world: World, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A plain loop, batches of 4."""
    return run(world, tmp_path_factory.mktemp("plain"), 0, 4)


@pytest.fixture(scope="module")
def on_ray() -> Iterator[None]:
    with session_of(ResourcesConfig()) as session:
        session.connect()
        yield


# Fault case 47: a worker is killed in its units.
@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "an actor is killed"])
def test_actors_batches_and_lost_actors_change_no_row_no_verdict_and_no_pixel(
    world: World, plain: Made, on_ray: None, tmp_path: Path, killed: bool
) -> None:
    other = run(world, tmp_path, 3, 16, killed)
    assert other.verdicts == plain.verdicts and set(plain.verdicts.values()) > {ACCEPTED}
    assert other.pixels.keys() == plain.pixels.keys() == plain.rows.keys()
    for name, row in plain.rows.items():
        same = {key: value for key, value in row.items() if key not in (*ROUNDED, *CUT)}
        assert same == {key: value for key, value in other.rows[name].items() if key in same}
        for key in ROUNDED:
            assert other.rows[name][key] == (pytest.approx(row[key], abs=1e-3) if row[key] is not None else None)
        assert np.abs(other.pixels[name].astype(int) - plain.pixels[name]).max() <= 1
    assert {row["round"] for row in plain.rows.values()} == {0, 1}, "a second round is part of what is compared"


def nothing(names: Sequence[str], make: Callable[[], Any]) -> Ran:
    """Runs no unit, for none is to be asked for."""
    assert list(names) == []
    return Ran()


def test_quotas_of_nothing_make_nothing(tmp_path: Path) -> None:
    def never(plan: Path) -> Callable[[], Any]:
        return partial(pytest.fail, "nothing was to be made")

    artifact = Artifact(tmp_path, Identity("synthesize", 1, {}, {}))
    artifact.open()
    rounds = Rounds(nothing, artifact, SynthesizeConfig(), FILTER, 0, never)
    images, verdict = rounds.until_full({A: 0}, SOURCES)
    assert images.num_rows == len(verdict) == 0 and images.schema == EMPTY.schema
    assert rounds.trials([], {}) == (EMPTY, {})


def test_an_image_depicts_its_group_only_with_both() -> None:
    def row(constant: bool, label: float, attribute: float) -> dict[str, Any]:
        return {"constant": constant, "label_probability": label, "attribute_probability": attribute}

    assert depicts_its_group(row(False, 0.5, 0.5))
    assert not any(map(depicts_its_group, [row(True, 1, 1), row(False, 0.49, 1), row(False, 1, 0.49)]))


class Recorded:
    """Stands in for the cluster: notes which units are asked for of which plan, and makes images that are all fine."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        patch.setattr(module, "read_units", self.read)

    def run(self, names: list[str], make: Path) -> Ran:
        """One unit of each round was there already."""
        self.asked.append((make.name, names))
        self.plan = make
        return Ran(len(names) - 1, 1, 0.5)

    def read(self, artifact: Artifact, names: list[str]) -> pa.Table:
        """The rows of the plan's file, in the units' order."""
        rows = [row for row in pq.read_table(self.plan).to_pylist() if row["unit"] in names]
        seen = dict.fromkeys(SEEN.names) | {"constant": False, "text_score": 0.5, "centroid_score": 0.5}
        seen |= {"label_probability": 1.0, "attribute_probability": 1.0, "zero_shot_label": "low"}

        def looks(i: int) -> dict[str, Any]:
            rng = np.random.default_rng([i, len(self.asked)])
            return {"sha256": rng.bytes(8).hex(), "phash": rng.bytes(8), "look": rng.bytes(192)}

        return pa.Table.from_pylist([row | seen | looks(i) for i, row in enumerate(rows)], EMPTY.schema)


def rounds_in(folder: Path, recorded: Recorded, **config: Any) -> Rounds:
    """Rounds whose work is the plan's path."""
    artifact = Artifact(folder, Identity("synthesize", 1, {}, {}))
    artifact.open()
    settings = SynthesizeConfig(unit_size=4, **config)
    return Rounds(recorded.run, artifact, settings, FilterConfig(keep=1), 0, lambda path: path)  # type: ignore[arg-type, return-value]


def test_a_run_that_goes_on_keeps_to_the_plan_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Recorded(monkeypatch)
    rounds = rounds_in(tmp_path, first)
    images, verdict = rounds.until_full({A: 9}, SOURCES)
    assert images.num_rows == 9 and verdict.to_pylist() == [ACCEPTED] * 9
    plan = rounds.artifact.path / "plan-0.parquet"
    before = plan.read_bytes()
    # By another verdict on the trial batches this run would plan more and other images.
    again = Recorded(monkeypatch)
    rounds = rounds_in(tmp_path, again)
    images, _ = rounds.until_full({A: 9, B: 3}, SOURCES)
    assert plan.read_bytes() == before
    assert again.asked[0] == first.asked[0] and again.asked[0][0] == "plan-0.parquet"
    assert sorted(again.asked[0][1]) == sorted(set(pq.read_table(plan)["unit"].to_pylist()))
    # What the first plan lacks is planned in the next round.
    later = pq.read_table(plan.with_name("plan-1.parquet"))
    assert {Group(row["label"], row["attribute"]) for row in later.to_pylist()} == {B}
    assert again.asked[1] == ("plan-1.parquet", later["unit"].unique().to_pylist())
    assert images.num_rows == 9 + later.num_rows
    units = [len(names) for _, names in again.asked]
    assert rounds.ran == Ran(sum(units) - len(units), len(units), 0.5 * len(units))


def test_trial_batches_that_were_planned_are_not_planned_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch)
    by_route = {A: {"own": SOURCES[A]}}
    _, found = rounds_in(tmp_path, recorded, trial_images=6).trials([(A, "own")], by_route)
    _, again = rounds_in(tmp_path, recorded, trial_images=20).trials([(A, "own")], by_route)
    assert tuple(found[A, "own"]) == tuple(again[A, "own"]) == (6, 6, 6)
    assert recorded.asked[0] == recorded.asked[1] and recorded.asked[0][0] == "plan-trials.parquet"


def test_a_plan_is_either_absent_or_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(writer: pq.ParquetWriter, table: pa.Table) -> None:
        raise OSError("no space left on device")

    recorded = Recorded(monkeypatch)
    rounds = rounds_in(tmp_path, recorded)
    plan = rounds.artifact.path / "plan-0.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.pq.ParquetWriter, "write_table", torn)
        with pytest.raises(OSError, match="no space left"):
            rounds.until_full({A: 9}, SOURCES)
    assert not plan.exists() and recorded.asked == []
    images, _ = rounds_in(tmp_path, recorded).until_full({A: 9}, SOURCES)
    assert images.num_rows == pq.read_table(plan).num_rows == 9


def test_tables_are_written_with_plain_text_whatever_they_hold_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS", 2)
    column = pa.chunked_array([pa.array(part).dictionary_encode() for part in (["a", "b", None], ["c", "a"])])
    write_table(pa.table({"text": column, "number": range(5)}), tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.schema == pa.schema([("text", pa.string()), ("number", pa.int64())])
    assert table.to_pydict() == {"text": ["a", "b", None, "c", "a"], "number": [0, 1, 2, 3, 4]}
    assert os.listdir(tmp_path) == ["t.parquet"]


def test_the_driver_holds_the_rows_of_many_units_and_shared_text_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UNITS", 2)
    artifact = Artifact(tmp_path, Identity("synthesize", 1, {}, {}))
    artifact.open()
    plain = pa.schema([*SCHEMA, *SEEN])
    rows = [dict.fromkeys(plain.names) | {"image_id": str(i), "label": "ab"[i % 2], "unit": f"u{i}"} for i in range(5)]
    for row in rows:
        table = pa.Table.from_pylist([row], plain)
        artifact.units().commit(row["unit"], partial(write_tables, {"images": table}))
    images = read_units(artifact, [f"u{i}" for i in (0, 1, 2, 3, 4)])
    assert images.to_pylist() == rows and images.schema == EMPTY.schema
    assert {chunk.dictionary.to_pylist() == ["a", "b"] for chunk in images["label"].chunks} == {True}
    assert read_units(artifact, []).equals(EMPTY)
