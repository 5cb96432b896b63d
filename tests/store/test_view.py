"""What is seen of an output in a bucket by those who only look: the bucket's, not what lies in a copy."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from fairsynth.artifacts import Artifact, Counts, Identity, finished_records
from fairsynth.errors import ConfigError, DamagedError, InfrastructureError
from fairsynth.lock import locked
from fairsynth.run_folder.mark import check_folder, claim, take_name
from fairsynth.run_folder.records import damaged
from fairsynth.store import mirror as mirrors
from fairsynth.store.mirror import cache_folder, newest, place_of
from fairsynth.store.objects import Objects
from fairsynth.store.place import output_root
from fairsynth.store.seals import forget
from fairsynth.store.view import finished_here, read_root, typed_root, up_to_date, view_of, viewed
from tests.support.store.many import upload
from tests.support.store.s3_server import Bucket

IDENTITY = Identity("embed", 1, {"a": 1}, {})


@pytest.fixture
def uri(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an output in which a run was."""
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    with locked(output_root(bucket.uri())):
        pass
    return bucket.uri()


def test_a_folder_is_as_the_bucket_has_it_now(uri: str) -> None:
    objects, view = Objects.at(uri), read_root(uri)
    upload(objects, {"adapters/a/w": b"1", "adapters/b/w": b"2"})
    folder = up_to_date(view / "adapters")
    times = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("w")}
    up_to_date(folder)
    assert times == {path: path.stat().st_mtime_ns for path in Path(folder).rglob("w")}, "nothing was fetched again"
    # Within the second, and of the same size: another machine laid it out anew.
    upload(objects, {"adapters/a/w": b"3", "adapters/c/w": b"4"})
    objects.delete(["adapters/b/w"])
    up_to_date(folder)
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("w")} == {
        "a/w": b"3",
        "c/w": b"4",
    }
    objects.delete(["adapters/a/w", "adapters/c/w"])
    assert not up_to_date(folder).exists()


def test_looking_leaves_the_copy_of_a_run_at_work_alone(uri: str) -> None:
    root, objects = output_root(uri), Objects.at(uri)
    with locked(root):
        (root / "logs").mkdir(exist_ok=True)
        (root / "logs" / "run.jsonl").write_bytes(b"longer than what was sent so far\n")
        objects.write("logs/run.jsonl", b"longer\n")
        view = viewed(read_root(uri))
        assert view == view_of(root) == read_root(uri) and view != root
        assert (view / "logs" / "run.jsonl").read_bytes() == b"longer\n"
        assert (root / "logs" / "run.jsonl").read_bytes() == b"longer than what was sent so far\n"
    assert (viewed(view) / "logs" / "run.jsonl").read_bytes() == b"longer than what was sent so far\n"
    assert not (view / "bench").exists() and f"{view}" == uri.partition("?")[0]


def test_where_no_run_was_nothing_is_made(uri: str) -> None:
    before = {*cache_folder().iterdir()}
    with pytest.raises(ConfigError, match=r"no run of fairsynth is in s3://bucket-[0-9a-f]+/none; give the address"):
        read_root(uri.replace("/out?", "/none?"))
    assert {*cache_folder().iterdir()} == before
    assert list(Objects.at(uri.replace("/out?", "/none?")).walk()) == []


def test_a_run_or_its_classifier_can_be_named(uri: str) -> None:
    assert (
        typed_root(uri.replace("/out?", "/out/classifier?"))
        == typed_root(uri.replace("/out?", "/out/?"))
        == read_root(uri)
    )
    assert typed_root("runs/a") == Path("runs/a") and read_root("runs/a") == Path("runs/a").resolve()


def test_a_record_that_is_gone_from_the_bucket_does_not_count_by_a_copy(uri: str) -> None:
    root = output_root(uri)
    with locked(root):
        artifact = Artifact(root, IDENTITY)
        (artifact.open() / "x.txt").write_text("1")
        artifact.finish(Counts(), 1.0)
    assert len(finished_records(root, "embed")) == 1
    Objects.at(uri).delete([f"stages/{artifact.name}/artifact.json"])
    assert (Path(root) / "stages" / artifact.name / "artifact.json").exists() and finished_records(root, "embed") == []


def test_an_artifact_that_was_made_anew_is_fetched_again(uri: str) -> None:
    root, objects = output_root(uri), Objects.at(uri)
    with locked(root):
        artifact = Artifact(root, IDENTITY)
        (artifact.open() / "x.txt").write_text("as it was")
        artifact.finish(Counts(), 1.0)
    [(folder, record)] = finished_records(read_root(uri), "embed")
    (folder / "x.txt").write_text("of before")
    assert (finished_here(folder, record) / "x.txt").read_text() == "as it was"
    objects.write(f"stages/{artifact.name}/x.txt", b"bit rot!!")
    (folder / "x.txt").unlink()
    forget(folder)
    with pytest.raises(DamagedError, match=r"x\.txt"):
        finished_here(folder, record)


def test_another_machine_goes_on_whatever_its_copy_has_of_the_views(uri: str) -> None:
    """What this machine fetched to look at, or a log, is not taken for somebody else's."""
    root = output_root(uri)
    upload(Objects.at(uri), {"report.json": b"{}", "logs/run.jsonl": b"{}\n"})
    check_folder(root)
    with locked(root):
        claim(root)
        newest(root / "report.json")
        take_name(root, "report.json")


def test_a_cache_that_cannot_be_written_is_told(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ConfigError, match=r"cannot be written in .*/file/below: Not a directory; set FAIRSYNTH_CACHE"):
        read_root(uri)
    with pytest.raises(ConfigError, match="set FAIRSYNTH_CACHE to a folder that can"):
        output_root(uri.replace("/out?", "/other?"))


def test_a_disk_that_takes_no_more_is_told_with_what_to_do(uri: str) -> None:
    Objects.at(uri).write("report.json", b"x" * 100_000)
    view, usual = read_root(uri), resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to write more to a file, as it does to a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))
    try:
        with pytest.raises(InfrastructureError, match=r"cannot be written in .*: File too large; free some room there"):
            newest(view / "report.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert [path for path in view.rglob("*") if path.is_file()] == []


def test_a_cache_behind_a_link_has_one_name(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "link"))
    monkeypatch.setattr(mirrors, "_MIRRORS", {})
    root = output_root(bucket.uri("elsewhere"))
    assert place_of((root / "a").resolve()) is not None and root.is_relative_to((tmp_path / "real").resolve())


def test_messages_about_files_name_the_object(uri: str) -> None:
    unit = read_root(uri) / "stages" / "embed-0123456789abcdef" / "units" / "a" / "x.parquet"
    said = str(damaged(unit, "it is cut off"))
    stage = f"{uri.partition('?')[0]}/stages/embed-0123456789abcdef"
    assert said.startswith(f"{stage}/units/a/x.parquet is damaged")
    assert f"remove {stage}/units/a and {stage}/artifact.json" in said and str(cache_folder()) not in said
