"""The dataset's folder, on a disk or in an object store: what is seen, what is refused, and that nothing is written."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest

from fairsynth.config import DataConfig
from fairsynth.data import dataset
from fairsynth.data.location import ImageReader
from fairsynth.data.metadata import BadImage
from fairsynth.data.storage import Storage
from fairsynth.data.tables.text import text_lines
from fairsynth.errors import DataError
from tests.support.data.dataset_files import image, load, not_listed, put
from tests.support.data.layouts import DISCOVER, FRACTIONS, LAYOUTS, class_folders
from tests.support.store.object_store import object_store

NFC, NFD = unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")


def paths(root: Path, follow_links: bool = False) -> list[str]:
    """Paths of all files that are seen."""
    return [file.path for file in Storage(str(root), follow_links).files()]


def reason(root: Path, path: str, location: str = "", follow_links: bool = False) -> str:
    """The reason for which an image cannot be read."""
    with pytest.raises(BadImage) as caught:
        ImageReader(Storage(str(root), follow_links)).read(path, location)
    return caught.value.reason


def refusal(root: str) -> str:
    """The message with which a dataset's folder is refused."""
    with pytest.raises(DataError) as caught:
        Storage(root)
    return str(caught.value)


def test_files_are_sorted_with_size_and_time(tmp_path: Path) -> None:
    for name in ("b/2.png", "a.png", "b/1.png", "a/z.png"):
        put(tmp_path / name, name)
    found = Storage(str(tmp_path)).files()
    assert [(f.path, f.location, f.size) for f in found] == [
        ("a.png", "", 5), ("a/z.png", "", 7), ("b/1.png", "", 7), ("b/2.png", "", 7)
    ]  # fmt: skip
    assert found[0].time == (tmp_path / "a.png").stat().st_mtime_ns


def test_hidden_files_and_folders_are_not_seen(tmp_path: Path) -> None:
    for name in ("a.png", ".b.png", "._a.png", ".git/c.png", "x/.DS_Store", "__MACOSX/x/._a.png", "x/d.png"):
        put(tmp_path / name, "x")
    assert paths(tmp_path) == ["a.png", "x/d.png"]
    assert Storage(str(tmp_path)).names() == ["a.png", "x"]


def test_loops_of_links_end(tmp_path: Path) -> None:
    put(tmp_path / "a" / "x.png", "x")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "gone").symlink_to("nowhere")
    for follow in (False, True):
        start = time.perf_counter()
        assert paths(tmp_path, follow) == ["a/self", "a/x.png", "gone", "one", "two"]
        assert time.perf_counter() - start < 2
        assert reason(tmp_path, "one", follow_links=follow) == "unreadable"
    assert reason(tmp_path, "gone") == "missing_file"


def test_links_out_of_the_dataset_are_followed_only_when_asked(tmp_path: Path) -> None:
    root, outside = tmp_path / "data", put(tmp_path / "outside" / "o.png", image(0))
    put(root / "real" / "x.png", image(1))
    (root / "file.png").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent, target_is_directory=True)
    (root / "inside.png").symlink_to(root / "real" / "x.png")
    # What is not followed is not lost: files are listed and say why they cannot be read, folders are named.
    assert paths(root) == ["file.png", "inside.png", "real/x.png"]
    storage = Storage(str(root))
    assert len(storage.files()) == len(storage.files()) == 3 and storage.not_followed == ["folder"]
    assert paths(root, True) == ["file.png", "folder/o.png", "inside.png", "real/x.png"]
    assert reason(root, "file.png") == reason(root, "folder/o.png") == "outside_root"
    assert ImageReader(Storage(str(root), True)).read("folder/o.png").content == image(0)
    assert ImageReader(Storage(str(root))).read("inside.png").content == image(1)


def test_links_that_are_not_followed_are_told(tmp_path: Path) -> None:
    root, outside = tmp_path / "data", put(tmp_path / "outside" / "a" / "o.png", image(0))
    for label in "xy":
        for split in ("train", "val", "test"):
            put(root / split / label / "a" / "1.png", image(1))
    (root / "train" / "x" / "a" / "2.png").symlink_to(outside)
    (root / "train" / "z").symlink_to(outside.parents[1], target_is_directory=True)
    found = dataset.load(DataConfig(root=str(root)), Storage(str(root)))
    assert sum(entry.path == "train/x/a/2.png" for entry in found.entries) == 1
    (remark,) = found.remarks
    assert "1 links to folders outside the dataset are not followed (data.follow_links), first: 'train/z'" in remark
    followed = dataset.load(DataConfig(root=str(root), follow_links=True), Storage(str(root), True))
    assert len(followed.entries) == 8 and followed.remarks == []


def test_a_dataset_may_be_reached_by_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real" / "x.png", image(0))
    (tmp_path / "link").symlink_to("real")
    assert paths(tmp_path / "link") == ["x.png"]
    assert ImageReader(Storage(str(tmp_path / "link"))).read("x.png").content == image(0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf_8_load_and_stay_apart(tmp_path: Path) -> None:
    raw = [
        os.fsencode(tmp_path) + b"/" + name
        for name in (b"cat\xff/a/1.png", b"cat\xff/b/\xe9.png", b"dog/a/\xe9.png", b"dog/b/1.png")
    ]
    for number, name in enumerate(raw):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "wb") as handle:
            handle.write(image(number, "PNG"))
    assert dataset.recognise(Storage(str(tmp_path))) == "classfolder"
    metadata = load(tmp_path, **FRACTIONS)
    assert {(e.label, e.attribute) for e in metadata.entries} == {(y, a) for y in ("cat\\xff", "dog") for a in "ab"}
    assert len({e.path for e in metadata.entries}) == 4
    for entry in metadata.entries:
        entry.path.encode()
    reader = ImageReader(Storage(str(tmp_path)))
    found = {reader.read(entry.path, entry.location).content for entry in metadata.entries}
    assert found == {image(number, "PNG") for number in range(4)}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_dataset_in_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path) + b"/b\xfcffel"
    os.mkdir(root)
    assert "b\\udcfcffel' is not UTF-8; rename it, or give a link to it" in refusal(os.fsdecode(root))
    os.symlink(root, tmp_path / "link")
    assert paths(tmp_path / "link") == []


def test_names_that_differ_in_unicode_form_alone_are_two_files(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a" / NFC, image(0, "PNG"))
    put(tmp_path / "x" / "a" / NFD, image(1, "PNG"))
    found = load(tmp_path, **FRACTIONS).entries
    assert sorted(e.path for e in found) == sorted([f"x/a/{NFC}", f"x/a/{NFD}"])
    reader = ImageReader(Storage(str(tmp_path)))
    assert reader.read(f"x/a/{NFC}").content == image(0, "PNG")
    (tmp_path / "x" / "a" / NFD).unlink()
    with pytest.raises(BadImage, match="another Unicode form"):
        reader.read(f"x/a/{NFD}")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    for name in ("data.zip", "data.tar.gz", "DATA.TAR", "x.7z"):
        assert f"'{put(tmp_path / name, 'x')}' is an archive; unpack it" in refusal(str(tmp_path / name))
    assert "is a file; give the folder" in refusal(str(put(tmp_path / "metadata.csv", "x")))
    assert "does not exist; give the folder" in refusal(str(tmp_path / "no"))
    assert "no dataset given; set --data.root" in refusal("")
    (tmp_path / "folder.zip").mkdir()
    assert paths(tmp_path / "folder.zip") == []


@pytest.mark.parametrize("uri", [
    "s3://AKIA:secret@bucket/data", "s3://AKIA:sec/ret@bucket/data", "gs://secret@bucket/x", "https://me:secret@host/x", "s3://AKIA:secret@bucket?scheme=http",
])  # fmt: skip
def test_passwords_in_uris_are_refused_and_not_repeated(uri: str) -> None:
    message = refusal(uri)
    assert "holds a user name or password" in message and "secret" not in message and "ret@" not in message


@pytest.mark.parametrize("uri", ["https://host/x", "hf://datasets/x", "file:///tmp", "ftp://host/x", "hdfs://host/x"])
def test_other_schemes_are_refused(uri: str) -> None:
    assert f"the scheme {uri.split(':')[0]}:// is not supported; give a folder, s3:// or gs://" in refusal(uri)


def test_folders_that_may_not_be_listed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "closed" / "x.png", "x")
    not_listed(monkeypatch, b"closed")
    with pytest.raises(DataError, match=r"cannot list .*closed.*: Permission denied"):
        paths(tmp_path)


def test_pipes_and_folders_are_no_images_and_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    assert paths(tmp_path) == []
    assert reason(tmp_path, "pipe.png") == reason(tmp_path, "folder.png") == "unreadable"


def test_stamps_change_with_the_files(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "x")
    storage = Storage(str(tmp_path))
    first = storage.stamp({"a.png", "no.png", "nul\0.png"})
    assert first["a.png"] is not None and first["no.png"] is None and first["nul\0.png"] is None
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert storage.stamp({"a.png"}) == {"a.png": (1, 1)}


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Access keys for the object store, and no question to a cloud about others."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)


@pytest.mark.slow
@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("name", ["folder, csv", "folder by split, jsonl", "split, classes and attributes", "celeba, as published", "utkface",
    "parquet", "webdataset", "waterbirds"])  # fmt: skip
def test_an_object_store_gives_the_same_as_a_disk(tmp_path: Path, name: str) -> None:
    expected, build, options = LAYOUTS[name]
    build(tmp_path / "data")
    put(tmp_path / "data" / ".hidden" / "x.png", "x")
    put(tmp_path / "database" / "not-in-data.png", "x")
    writes: list[str] = []
    with object_store(tmp_path, writes) as query:
        remote, local = Storage(f"s3://bucket/data?{query}"), Storage(str(tmp_path / "data"))
        assert dataset.recognise(remote) == expected
        metadata = load(remote.root, **options)
        assert metadata == load(local.root, **options)
        assert [f[:3] for f in files(remote)] == [f[:3] for f in files(local)]
        one, other = ImageReader(remote), ImageReader(local)
        for entry in metadata.entries:
            assert one.read(entry.path, entry.location) == other.read(entry.path, entry.location)
        assert metadata.entries and not writes


def files(storage: Storage) -> list[tuple[str, str, int]]:
    """Path, location and size of all files."""
    return [(file.path, file.location, file.size) for file in storage.files()]


@pytest.mark.usefixtures("keys")
def test_what_is_not_in_an_object_store_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "data", True, False)
    with object_store(tmp_path) as query:
        assert "dataset folder 's3://bucket/no?" in refusal(f"s3://bucket/no?{query}")
        storage = Storage(f"s3://bucket/data?{query}")
        assert storage.name("x/a.png") == "s3://bucket/data/x/a.png"
        with pytest.raises(BadImage, match="missing_file"):
            ImageReader(storage).read("train/cat/none.png")
        with pytest.raises(DataError, match=r"cannot read s3://bucket/data/metadata\.csv"):
            list(text_lines(storage, "metadata.csv"))
        stamps = storage.stamp({"train/cat/0000.png", "none.png"})
        assert stamps["none.png"] is None and stamps["train/cat/0000.png"] is not None
        assert len(load(storage.root, **DISCOVER).entries) == 12


# Fault case 56: an object store refuses or fails.
@pytest.mark.slow
@pytest.mark.usefixtures("keys")
def test_an_object_store_that_does_not_answer_is_an_error_soon(tmp_path: Path) -> None:
    with object_store(tmp_path) as query:
        pass
    start = time.perf_counter()
    assert "cannot open 's3://bucket/data" in refusal(f"s3://bucket/data?{query}")
    assert time.perf_counter() - start < 60


def test_a_storage_passes_between_processes(tmp_path: Path) -> None:
    put(tmp_path / "x.png", image(0))
    reader = pickle.loads(pickle.dumps(ImageReader(Storage(str(tmp_path)))))
    assert reader.read("x.png").content == image(0)


def test_reading_metadata_needs_neither_torch_nor_ray() -> None:
    code = "import sys; import fairsynth.data.dataset; assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
