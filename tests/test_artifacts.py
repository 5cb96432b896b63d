"""Artifacts and units: complete or absent, exactly once, and never mixed up."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fairsynth.artifacts import (
    Artifact,
    Counts,
    Identity,
    Units,
    fingerprint,
    finished_records,
    write_json,
)
from fairsynth.errors import FairsynthError
from fairsynth.run_folder.files import with_usual_mode

IDENTITY = Identity("embed", 1, {"unit_size": 8, "k": "auto"}, {"ingest": "aa"}, {"clip": "r1"})
# Prelude of a process that ends without any clean-up.
DYING = """
import os, sys
from pathlib import Path
from fairsynth.artifacts import Units, write_json
root, die = Path(sys.argv[1]), lambda *_: os._exit(9)
"""


def run_dying(code: str, root: Path) -> None:
    """Run code that kills itself, in a process of its own."""
    assert subprocess.run([sys.executable, "-c", DYING + code, str(root)], timeout=60, check=False).returncode == 9


def fill(text: str) -> Callable[[Path], object]:
    """A writer of one file."""
    return lambda folder: (folder / "file.txt").write_text(text)


def test_damaged_records_of_finished_stages_say_nothing(tmp_path: Path) -> None:
    Artifact(tmp_path, IDENTITY).open()
    Artifact(tmp_path, IDENTITY).finish(Counts(1, 1), 0.1)
    for number, text in enumerate(("", "{", "[]", '{"stage": "embed"}', '{"stage": "cluster", "finished_at": 1}')):
        folder = tmp_path / "stages" / f"embed-{number}"
        folder.mkdir()
        (folder / "artifact.json").write_text(text)
    ((path, record),) = finished_records(tmp_path, "embed")
    assert path == Artifact(tmp_path, IDENTITY).path and record["counts"]["used"] == 1


def test_every_part_of_the_identity_is_in_the_fingerprint() -> None:
    config, inputs, extra = IDENTITY.config, IDENTITY.inputs, IDENTITY.extra
    others = [
        Identity("cluster", 1, config, inputs, extra),
        Identity("embed", 2, config, inputs, extra),
        Identity("embed", 1, {"unit_size": 9, "k": "auto"}, inputs, extra),
        Identity("embed", 1, {"unit_size": 8}, inputs, extra),
        Identity("embed", 1, config, {"ingest": "ab"}, extra),
        Identity("embed", 1, config, {"cluster": "aa"}, extra),
        Identity("embed", 1, config, inputs, {"clip": "r2"}),
        Identity("embed", 1, config, {}, {"ingest": "aa", "clip": "r1"}),
        Identity("embed", 1, {"unit_size": "8", "k": "auto"}, inputs, extra),
    ]
    assert len({IDENTITY.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


def test_fingerprint_ignores_the_order_of_keys_and_the_place() -> None:
    turned = Identity("embed", 1, {"k": "auto", "unit_size": 8}, {"ingest": "aa"}, {"clip": "r1"})
    assert turned.fingerprint == IDENTITY.fingerprint
    assert (
        Artifact(Path("/a"), IDENTITY).path.name
        == Artifact(Path("/b"), IDENTITY).path.name
        == f"embed-{IDENTITY.fingerprint}"
    )


def test_fingerprint_never_changes() -> None:
    assert fingerprint({"b": [1, None], "a": "x"}) == "a8d71f64d3dc772b"  # printf '{"a":"x","b":[1,null]}' | sha256sum


def test_an_artifact_exists_once_its_record_does(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path, IDENTITY)
    assert not artifact.finished
    (artifact.open() / "result.parquet").write_text("data")
    artifact.units().commit("one", fill("1"))
    assert not Artifact(tmp_path, IDENTITY).finished
    artifact.finish(Counts(5, 3, 1, 1), 1.234, summary="three")
    again = Artifact(tmp_path, IDENTITY)
    assert again.finished and again.record["counts"] == {"input": 5, "used": 3, "quarantined": 1, "excluded": 1}
    assert again.record["config"] == dict(IDENTITY.config) and again.record["summary"] == "three"
    assert not Artifact(tmp_path, Identity("embed", 2, IDENTITY.config, IDENTITY.inputs)).finished
    assert artifact.digest == IDENTITY.fingerprint
    artifact.finish(Counts(), 0, digest="content")
    assert artifact.digest == "content"


@pytest.mark.parametrize("numbers", [(5, 3, 1, 0), (4, 3, 1, 1), (0, 0, 0, 1)])
def test_counts_that_do_not_add_up_are_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(FairsynthError, match="do not add up"):
        Counts(*numbers)


def test_of_two_writers_at_once_one_wins(tmp_path: Path) -> None:
    units, meeting, results = Units(tmp_path / "units"), threading.Barrier(2), []

    def write(folder: Path, text: str) -> None:
        (folder / "a.txt").write_text(text)
        meeting.wait(10)  # neither has its name yet
        (folder / "b.txt").write_text(text)

    threads = [
        threading.Thread(target=lambda t=t: results.append(units.commit("one", lambda folder: write(folder, t))))
        for t in "xy"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [units["one"]] * 2 and units.done() == {"one"}
    assert (units["one"] / "a.txt").read_text() == (units["one"] / "b.txt").read_text()
    assert [entry.name for entry in units.path.iterdir()] == ["one"]


def test_a_committed_unit_is_never_written_again(tmp_path: Path) -> None:
    units = Units(tmp_path)
    units.commit("one", fill("first"))
    units.commit("one", lambda folder: pytest.fail("written twice"))
    assert (units["one"] / "file.txt").read_text() == "first"


# Fault case 54: a writer dies around a commit.
def test_a_writer_that_raises_leaves_nothing(tmp_path: Path) -> None:
    units = Units(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        units.commit("one", fail)
    assert list(tmp_path.iterdir()) == [] and units.done() == set()
    units.commit("one", fill("second attempt"))
    assert units.done() == {"one"}


@pytest.mark.parametrize("patch", ["", "os.rename = die", "os.fsync = die"])
def test_a_killed_writer_leaves_no_unit(tmp_path: Path, patch: str) -> None:
    # Without a patch it dies inside the writer, else on the way from there to the unit's name.
    end = "pass" if patch else "die()"
    run_dying(
        f"def write(f):\n (f / 'half.txt').write_text('half')\n {end}\n{patch}\nUnits(root).commit('one', write)",
        tmp_path,
    )
    units = Units(tmp_path)
    assert units.done() == set() and len(list(tmp_path.iterdir())) == 1
    units.commit("two", fill("kept"))
    units.sweep()
    assert [entry.name for entry in tmp_path.iterdir()] == ["two"]
    assert units.commit("one", fill("whole")) == units["one"] and units.done() == {"one", "two"}


@pytest.mark.parametrize("patch", ["os.fsync = die", "Path.replace = die"])
def test_a_json_file_is_old_or_new_when_its_writer_dies(tmp_path: Path, patch: str) -> None:
    write_json(tmp_path / "record.json", {"a": "old"})
    run_dying(f"{patch}\nwrite_json(root / 'record.json', {{'a': 'new' * 100000}})", tmp_path)
    assert json.loads((tmp_path / "record.json").read_text()) == {"a": "old"}
    write_json(tmp_path / "record.json", {"ä": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "record.json", [object()])
    assert json.loads((tmp_path / "record.json").read_text("utf-8")) == {"ä": 1}


def test_weights_are_as_readable_as_other_files(tmp_path: Path) -> None:
    private, usual = tmp_path / "a.safetensors", tmp_path / "b.json"
    private.touch(0o600)
    usual.touch()
    with_usual_mode(private)
    assert private.stat().st_mode == usual.stat().st_mode and len([*tmp_path.iterdir()]) == 2
