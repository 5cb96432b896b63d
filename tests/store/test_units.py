"""The promises of units and records, kept on a disk and in a bucket alike."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairsynth.artifacts import Artifact, Counts, Identity, Units, finished_records
from fairsynth.errors import ConfigError, TakenOverError
from fairsynth.stages.views import new_folder, publish
from fairsynth.store import mirror as mirrors
from fairsynth.store.lease import KEY, Lease
from fairsynth.store.mirror import BucketPath, here, newest, place_of, sent, tree_gone, tree_sent
from fairsynth.store.place import output_root
from fairsynth.store.seals import SEAL
from fairsynth.store.view import up_to_date
from tests.support.store.s3_server import Bucket

# Fault case 54: half a commit is none.
IDENTITY = Identity("embed", 1, {"a": 1}, {})


@pytest.fixture(params=["disk", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty output."""
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    if request.param == "disk":
        return tmp_path / "out"
    return output_root(request.getfixturevalue("bucket").uri())


@pytest.fixture
def in_bucket(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty output in a bucket."""
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    return output_root(bucket.uri())


def other_node(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The same place as a process of another node has it: nothing is there yet."""
    travelled = pickle.dumps(path)
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(mirrors, "_MIRRORS", {})
    found = pickle.loads(travelled)
    assert isinstance(found, Path)
    return found


def writing(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "a.txt").write_text(text, "utf-8") and None


def test_of_many_writers_the_first_wins_and_the_others_leave_nothing(root: Path) -> None:
    units = Units(root / "stages" / "embed-1" / "units")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: units.commit("x", writing(str(i))), range(8)))
    assert units.done() == {"x"} and units.has("x") and not units.has("y")
    assert (units["x"] / "a.txt").read_text() in set(map(str, range(8)))
    assert [path for path in units.path.iterdir() if path.name.startswith(".")] == []
    if place := place_of(units.path):
        keys = [entry.key for entry in place[0].objects.walk("stages")]
        assert len(keys) == 2, keys


def test_a_writer_that_fails_leaves_no_unit(root: Path) -> None:
    units = Units(root / "stages" / "embed-1" / "units")

    def broken(folder: Path) -> None:
        writing("half")(folder)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        units.commit("x", broken)
    assert units.done() == set() and not units.has("x")
    units.commit("x", writing("whole"))
    assert (units["x"] / "a.txt").read_text() == "whole"


def test_names_of_units_are_kept(root: Path) -> None:
    units = Units(root / "stages" / "embed-1" / "units")
    names = {"texts=", "class=0a1b", "high--flower-0", "a.json", "a b"}
    for name in names:
        units.commit(name, writing(name))
    assert units.done() == names
    units.here(names)
    assert {(units[name] / "a.txt").read_text("utf-8") for name in names} == names


def finished(root: Path) -> Artifact:
    artifact = Artifact(root, IDENTITY)
    assert not artifact.finished
    (artifact.open() / "table.txt").write_text("rows")
    (artifact.path / "training").mkdir()
    (artifact.path / "training" / "x.txt").write_text("deep")
    artifact.units().commit("x", writing("unit"))
    artifact.finish(Counts(1, 1), 1.0, summary="done")
    assert artifact.finished
    return artifact


def test_an_artifact_is_there_once_its_record_is(root: Path) -> None:
    finished(root)
    again = Artifact(root, IDENTITY)
    assert (
        again.finished
        and again.record["summary"] == "done"
        and set(again.record["files"]) == {"table.txt", "training/x.txt"}
    )
    assert (again.path / "table.txt").read_text() == "rows"
    assert [record["summary"] for _, record in finished_records(root, "embed")] == ["done"]
    assert finished_records(root, "cluster") == []


def tree_gone_here(root: Path) -> None:
    import shutil

    shutil.rmtree(str(root), ignore_errors=True)


def test_a_view_with_others_objects_in_it_is_not_replaced(in_bucket: Path) -> None:
    mirror = place_of(in_bucket)[0]  # type: ignore[index]

    def laid_out() -> None:
        private = new_folder(in_bucket / "adapters")
        (private / "README.md").write_text("ours")
        publish(private, in_bucket / "adapters", Artifact(in_bucket, IDENTITY))

    laid_out()
    laid_out()
    mirror.objects.write("adapters/notes.md", b"mine")
    with pytest.raises(ConfigError, match=r"holds \"?.*notes\.md.*did not put there"):
        laid_out()
    assert mirror.objects.read("adapters/notes.md") == b"mine"


def test_another_node_reads_what_was_written(in_bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(in_bucket)
    root = other_node(in_bucket, monkeypatch, tmp_path)
    assert isinstance(root, BucketPath) and str(root) != str(in_bucket)
    artifact = Artifact(root, IDENTITY)
    assert artifact.finished and (artifact.path / "training" / "x.txt").read_text() == "deep"
    assert (artifact.units()["x"] / "a.txt").read_text() == "unit"
    assert json.loads((artifact.units()["x"] / SEAL).read_text())["attempt"]


def test_files_that_change_are_as_the_bucket_has_them(
    in_bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = in_bucket / "stages" / "embed-1" / "checkpoints" / "a.bin"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"1")
    sent(state)
    with monkeypatch.context() as patched:
        there = other_node(state, patched, tmp_path)
        assert here(there).read_bytes() == b"1"
        there.write_bytes(b"2")
        sent(there)
    assert newest(state).read_bytes() == b"2"
    tree_gone(state.parent)
    assert not newest(state).exists() and not state.exists()


def test_a_folder_is_sent_whole_and_its_mark_comes_last(in_bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, order = in_bucket / "adapters", list[str]()
    mirror = place_of(in_bucket)[0]  # type: ignore[index]
    mirror.objects.write("adapters/old", b"of another run")
    mirror.objects.write("adapters/.mark", b"of another run")
    (folder / "a").mkdir(parents=True)
    for name in ("a/1", "a/2", ".mark"):
        (folder / name).write_text(name)
    monkeypatch.setattr(
        type(mirror), "send", lambda self, key: (order.append(key), mirror.objects.write(key, Path(self.root / key)))
    )
    tree_sent(folder, last=".mark")
    assert order[-1] == "adapters/.mark"
    assert sorted(entry.key for entry in mirror.objects.walk("adapters")) == [
        "adapters/.mark",
        "adapters/a/1",
        "adapters/a/2",
    ]
    tree_gone_here(folder)
    assert (up_to_date(folder) / "a" / "2").read_text() == "a/2"


def test_who_was_taken_over_commits_nothing_more(in_bucket: Path) -> None:
    mirror = place_of(in_bucket)[0]  # type: ignore[index]
    units = Units(in_bucket / "stages" / "embed-1" / "units")
    lease = Lease(mirror.objects)
    with lease.held():
        mirror.fence = lease.fence
        units.commit("x", writing("mine"))
        content = json.loads(mirror.objects.read(KEY) or b"")
        # Another run has taken the lease while this one slept.
        mirror.objects.write(KEY, json.dumps(content | {"id": "other", "epoch": content["epoch"] + 1}).encode())
        lease_seen_again(mirror.fence)
        with pytest.raises(TakenOverError, match="another run has taken over"):
            units.commit("y", writing("too late"))
        with pytest.raises(TakenOverError):
            sent(units.path / "x" / "a.txt")
    mirror.fence = None
    assert units.done() == {"x"}


def lease_seen_again(fence: object) -> None:
    """What was read a moment ago is believed for a second."""
    import time

    time.sleep(1.2)


def test_messages_name_the_object(in_bucket: Path) -> None:
    place = place_of(in_bucket)
    assert place
    assert f"{in_bucket / 'report.html'}" == f"{place[0].objects.address}/report.html"
    assert "endpoint" not in f"{in_bucket}" and (in_bucket / "a").name == "a"
