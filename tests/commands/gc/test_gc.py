"""What gc shows and removes: nothing that a report needs, nothing of others, and nothing while a run is at work."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from fairsynth.artifacts import Artifact, Counts, Identity
from fairsynth.lock import locked
from fairsynth.run_folder.mark import claim
from fairsynth.watching import record
from tests.support.calling import call, refused

PRIVATE = "0" * 32


def put(root: Path, stage: str, inputs: dict[str, str], version: int = 1, done: bool = True) -> Artifact:
    artifact = Artifact(root, Identity(stage, version, {}, inputs))
    artifact.open()
    artifact.units().commit("a", lambda folder: (folder / "x").write_bytes(b"x" * 1000) and None)
    if done:
        artifact.finish(Counts(), 90.0)
    return artifact


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A finished run of three stages, beside a config that was replaced, an unfinished one, and leftovers."""
    claim(tmp_path)
    ingest = put(tmp_path, "ingest", {})
    tune = put(tmp_path, "tune", {"ingest": ingest.digest})
    put(tmp_path, "report", {"tune": tune.digest, "ingest": ingest.digest})
    put(tmp_path, "tune", {"ingest": ingest.digest}, version=2)
    put(tmp_path, "evaluate", {}, done=False)
    for name in (
        f".adapters.{PRIVATE}/x",
        f"stages/{tune.path.name}/units/.a.{PRIVATE}/x",
        ".adapters.bak/x",
        "mine/x",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")
    (tune.path / "checkpoints").mkdir()
    return tmp_path


def lines(outcome: tuple[int, str, str]) -> list[str]:
    assert (outcome[0], outcome[2]) == (0, ""), outcome
    return outcome[1].splitlines()


def test_what_no_record_needs_is_shown_and_then_removed(root: Path) -> None:
    old, new = (
        Artifact(root, Identity("tune", v, {}, {"ingest": Artifact(root, Identity("ingest", 1, {}, {})).digest}))
        for v in (2, 1)
    )
    gone = {
        f".adapters.{PRIVATE}": "left by a run that was killed",
        f"stages/{new.path.name}/checkpoints": "checkpoints that its finished stage no longer needs",
        f"stages/{new.path.name}/units/.a.{PRIVATE}": "left by a run that was killed",
        f"stages/{old.path.name}": "of settings that were replaced; to make it again takes 1 min 30 s of work",
    }
    before = sorted(root.rglob("*"))
    shown = lines(call("gc", root))
    assert re.fullmatch(rf"in {re.escape(str(root))} no record needs: \d.* kB", shown[0])
    found = {name: why for name, _, why in (re.split(r"  +", line.strip()) for line in shown[1:-1])}
    assert found == gone and shown[-1] == "nothing was removed; --delete removes it"
    assert sorted(root.rglob("*")) == before
    assert lines(call("gc", root, "--delete"))[1:] == shown[1:-1]
    kept = {path for path in before if not any(path.is_relative_to(root / name) for name in gone)}
    assert {*root.rglob("*")} - {root / ".lock"} == kept
    assert lines(call("gc", root)) == [f"nothing in {root} that no record needs"]


def test_what_the_last_command_used_stays(root: Path) -> None:
    old = next(path for path in (root / "stages").glob("tune-*") if not (path / "checkpoints").exists())
    stages = {"tune": {"state": "finished", "folder": old.name}}
    record.write(root, {"stages": stages})
    assert not any(old.name in line for line in lines(call("gc", root)))


def test_of_unfinished_work_the_newest_stays_unless_its_stage_was_finished(root: Path) -> None:
    (newest,) = (root / "stages").glob("evaluate-*")
    other = put(root, "evaluate", {}, version=2, done=False).path
    for path in (other, *other.rglob("*")):
        os.utime(path, (1e9, 1e9))
    shown = "\n".join(lines(call("gc", root)))
    assert other.name in shown and newest.name not in shown and "unfinished, of other settings" in shown
    done = put(root, "evaluate", {}, version=3).path
    record.write(root, {"stages": {"evaluate": {"state": "finished", "folder": done.name}}})
    shown = "\n".join(lines(call("gc", root)))
    assert other.name in shown and newest.name in shown and done.name not in shown


def test_a_bench_needs_its_evaluations(root: Path) -> None:
    alone = put(root, "evaluate", {}, version=3).path
    assert any(alone.name in line for line in lines(call("gc", root)))
    (root / "bench").mkdir()
    assert not any(alone.name in line for line in lines(call("gc", root)))


def test_only_what_is_old_enough(root: Path) -> None:
    left = root / f".adapters.{PRIVATE}"
    for path in (left / "x", left):
        os.utime(path, (time.time() - 3 * 86400,) * 2)
    (_, line, _) = lines(call("gc", root, "--older-than", "2"))
    assert left.name in line
    assert lines(call("gc", root, "--older-than", "4")) == [
        f"nothing in {root} that no record needs, and that is older than 4 days"
    ]
    assert "--older-than is a number of days" in refused(call("gc", root, "--older-than", "-1"))


def test_not_while_a_run_is_at_work_and_not_where_none_was(root: Path, tmp_path: Path) -> None:
    before = sorted(root.rglob("*"))
    with locked(root):
        for more in ((), ("--delete",)):
            code, out, complaint = call("gc", root, *more)
            assert (code, out) == (6, "") and "is in use by" in complaint
    assert [path for path in sorted(root.rglob("*")) if path.name != ".lock"] == before
    assert "is not there" in refused(call("gc", tmp_path / "nowhere"))
    assert "has no run in it" in refused(call("gc", tmp_path / "mine", "--delete"))
    assert (tmp_path / "mine" / "x").exists()


def test_an_artifact_whose_record_is_damaged_stays(root: Path) -> None:
    (ingest,) = (root / "stages").glob("ingest-*")
    (ingest / "artifact.json").write_text(json.dumps([1]))
    assert not any(ingest.name in line for line in lines(call("gc", root)))
