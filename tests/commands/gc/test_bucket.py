"""gc of an output in a bucket: what killed attempts left, what no report needs, and this machine's copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.artifacts import Artifact, Identity, Units
from fairsynth.lock import locked
from fairsynth.store.mirror import place_of
from fairsynth.store.objects import Objects
from fairsynth.store.place import output_root
from tests.commands.gc.test_gc import put
from tests.support.calling import call, refused
from tests.support.store.s3_server import Bucket


@pytest.fixture
def uri(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A finished run of three stages, beside one of settings that were replaced, two unfinished ones, and leftovers."""
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    root = output_root(bucket.uri())
    objects = Objects.at(bucket.uri())
    with locked(root):
        ingest = put(root, "ingest", {})
        tune = put(root, "tune", {"ingest": ingest.digest})
        put(root, "report", {"tune": tune.digest, "ingest": ingest.digest})
        put(root, "tune", {"ingest": ingest.digest}, version=2)
        put(root, "evaluate", {}, done=False)
        # What workers write before a unit's record, and were killed: of a unit that was made later, and of one that was not.
        objects.write(f"stages/{tune.name}/units/a/{'0' * 32}/x", b"y" * 10)
        objects.write(f"stages/{tune.name}/units/b/{'0' * 32}/x", b"y" * 20)
        objects.write(f"stages/{tune.name}/ray/trial/state", b"y" * 30)
        objects.write(f".fairsynth-probe-{'0' * 16}", b"y")
        objects.write("stages/notes.txt", b"somebody's own")
    return bucket.uri()


def test_what_no_record_needs_is_shown_and_then_removed(uri: str) -> None:
    objects = Objects.at(uri)
    old, new = (
        Artifact(
            output_root(uri), Identity("tune", v, {}, {"ingest": Artifact(output_root(uri), IDENTITY).digest})
        ).name
        for v in (2, 1)
    )
    before = {entry.key for entry in objects.walk()}
    code, out, err = call("gc", uri)
    assert (code, err) == (0, "")
    gone = {
        key
        for key in before
        if key.startswith((".fairsynth-probe", f"stages/{old}/", f"stages/{new}/ray/")) or "0" * 32 in key
    }
    assert "made again" not in out and "to make it again takes 1 min 30 s of work" in out
    shown = {line.split()[0] for line in out.splitlines() if line.startswith("  ")}
    assert shown == {
        f".fairsynth-probe-{'0' * 16}", f"stages/{old}", f"stages/{new}/ray",
        f"stages/{new}/units/a/{'0' * 32}", f"stages/{new}/units/b/{'0' * 32}",
    }  # fmt: skip
    assert str(output_root(uri)) not in out and "nothing was removed; --delete removes it" in out
    assert {entry.key for entry in objects.walk()} == before
    code, out, err = call("gc", uri, "--delete")
    assert (code, err) == (0, "") and out.startswith(f"removed from {uri.partition('?')[0]}: ")
    assert {entry.key for entry in objects.walk()} == before - gone
    assert call("gc", uri)[1].startswith("nothing in s3://")
    root = output_root(uri)
    assert (Units(root / "stages" / new / "units")["a"] / "x").read_bytes() == b"x" * 1000


IDENTITY = Identity("ingest", 1, {}, {})


def test_an_unfinished_stage_of_other_settings_goes_and_the_newest_stays(uri: str) -> None:
    root = output_root(uri)
    with locked(root):
        put(root, "embed", {}, done=False)
        objects = Objects.at(uri)
        newer = Artifact(root, Identity("embed", 2, {}, {})).name
        older = Artifact(root, Identity("embed", 1, {}, {})).name
        place = place_of(root)
        assert place is not None
        while not _later(objects, newer, older):
            objects.write(f"stages/{newer}/units/a/{'1' * 32}/x", b"z")
    shown = call("gc", uri)[1]
    assert f"  stages/{older}  " in shown and "unfinished, of other settings" in shown
    assert f"  stages/{newer}  " not in shown and f"  stages/{newer}/units/a/{'1' * 32}  " in shown


def _later(objects: Objects, newer: str, older: str) -> bool:
    times = [max((e.modified for e in objects.walk(f"stages/{name}")), default=None) for name in (newer, older)]
    return times[0] is not None and times[1] is not None and times[0] > times[1]


def test_the_copy_is_told_and_its_units_go_and_come_back(uri: str) -> None:
    root = output_root(uri)
    units = [path for path in Path(root).glob("stages/*/units/a") if path.is_dir()]
    assert len(units) == 5
    shown = call("gc", uri)[1]
    assert "this machine's copy in " in shown and "which can be fetched again, can go with --delete" in shown
    call("gc", uri, "--delete")
    left = [path for path in units if path.exists()]
    assert [path.parts[-3].split("-")[0] for path in left] == ["evaluate"]  # that of the stage which is at work
    report = next(path for path in units if path.parts[-3].startswith("report"))
    assert (Units(root / "stages" / report.parts[-3] / "units")["a"] / "x").read_bytes() == b"x" * 1000


def test_nothing_while_a_run_is_at_work_and_nothing_where_none_was(uri: str) -> None:
    before = {entry.key for entry in Objects.at(uri).walk()}
    with locked(output_root(uri)):
        for words in (("gc", uri), ("gc", uri, "--delete")):
            code, out, err = call(*words)
            assert (code, out) == (6, "") and "is in use by process" in err
    assert {entry.key for entry in Objects.at(uri).walk()} == before
    assert "no run of fairsynth is in s3://" in refused(call("gc", uri.replace("/out?", "/other?"), "--delete"))
    assert list(Objects.at(uri.replace("/out?", "/other?")).walk()) == []


def test_a_gc_does_not_put_back_what_this_machine_knew_of_an_earlier_run(uri: str) -> None:
    root, objects = output_root(uri), Objects.at(uri)
    Path(root / "progress.json").write_text('{"stages": {}, "command": "stale"}', "utf-8")
    objects.write("progress.json", b'{"stages": {}, "command": "of another machine"}')
    assert call("gc", uri, "--delete")[0] == 0
    assert b"of another machine" in (objects.read("progress.json") or b"")
