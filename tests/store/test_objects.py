"""Objects in a bucket, against a real S3 service: what is written is read, by its exact key, and conditions hold."""

from __future__ import annotations

import os
import pickle
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairsynth.store.objects import Entry, Objects
from tests.support.store.many import download_all, upload, upload_folder
from tests.support.store.s3_server import Bucket

MANY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# What names of groups and files are made of, and what URLs, paths and shells read in their own way.
_PARTS = st.text(
    st.sampled_from(string.ascii_letters + string.digits + " #%+?&=~:;,.!*'()@$\"<>[]{}|^\\`-_" + "üßéЖ中漢😀"),
    min_size=1,
    max_size=20,
).filter(lambda part: part not in (".", ".."))
KEYS = st.lists(_PARTS, min_size=1, max_size=3).map("/".join)


@pytest.fixture
def objects(bucket: Bucket) -> Objects:
    return Objects.at(bucket.uri())


@MANY
@given(key=KEYS, content=st.binary(max_size=300))
def test_what_is_written_is_read_and_listed_by_its_key(objects: Objects, key: str, content: bytes) -> None:
    objects.write(key, content)
    assert objects.read(key) == content
    folder, _, _ = key.rpartition("/")
    assert key in objects.names(folder)
    assert (key, len(content)) in [(entry.key, entry.size) for entry in objects.walk()]
    objects.delete([key])
    assert objects.read(key) is None and list(objects.walk()) == []


def test_only_the_address_travels_between_processes(objects: Objects) -> None:
    objects.write("a", b"1")
    copy = pickle.loads(pickle.dumps(objects))
    assert copy.uri == objects.uri and copy.read("a") == b"1"


def test_an_objects_absence_is_no_error(objects: Objects, tmp_path: Path) -> None:
    assert objects.read("a") is None and objects.read_versioned("a") is None
    assert not objects.download("a", tmp_path / "new" / "a")
    assert list((tmp_path / "new").iterdir()) == []
    assert objects.swap("a", b"1", '"no version"') is None
    assert objects.names("a") == objects.folders("a") == list(objects.walk("a")) == []
    objects.delete(["a", "b"])
    objects.delete([])


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "a/../b", "..", ".", "a\nb", "a\0b"])
def test_what_is_no_key_is_refused(objects: Objects, key: str) -> None:
    for use in (objects.read, lambda key: objects.write(key, b""), lambda key: objects.delete([key])):
        with pytest.raises(ValueError, match="is no key"):
            use(key)


def test_of_many_who_create_one_wins(objects: Objects) -> None:
    with ThreadPoolExecutor(12) as pool:
        for round in range(5):
            contents = [f"{round} {who}".encode() for who in range(12)]
            won = list(pool.map(lambda content, key=f"c{round}": objects.create(key, content), contents))
            assert won.count(True) == 1
            assert objects.read(f"c{round}") == contents[won.index(True)]


def test_who_creates_the_same_again_is_told_that_it_is_there(objects: Objects) -> None:
    assert objects.create("a", b"mine") and objects.create("a", b"mine") and not objects.create("a", b"other")


def test_no_swap_is_lost(objects: Objects) -> None:
    objects.write("n", b"0 start")

    def count(who: int) -> None:
        for _ in range(5):
            while True:
                found = objects.read_versioned("n")
                assert found is not None
                after = f"{int(found[0].split()[0]) + 1} {who}".encode()
                if objects.swap("n", after, found[1]) is not None:
                    break

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(count, range(6)))
    assert int((objects.read("n") or b"").split()[0]) == 30


def test_a_swap_gives_the_version_for_the_next_one(objects: Objects) -> None:
    objects.create("a", b"1")
    found = objects.read_versioned("a")
    assert found is not None
    version = objects.swap("a", b"2", found[1])
    assert version is not None and objects.read_versioned("a") == (b"2", version)
    assert objects.swap("a", b"3", found[1]) is None and objects.read("a") == b"2"
    assert objects.swap("a", b"3", version) is not None


def test_listings_of_many_have_all(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairsynth.store.objects._PAGE", 40)
    keys = {f"units/{n % 7}/{n:04}" for n in range(240)} | {"units/x.json", "unitsbeside"}
    upload(objects, {key: key.encode() for key in keys})
    assert [entry.key for entry in objects.walk("units")] == sorted(keys - {"unitsbeside"})
    assert objects.folders("units") == [f"units/{n}" for n in range(7)] and objects.names("units") == ["units/x.json"]
    assert objects.names("") == ["unitsbeside"] and objects.folders("") == ["units"]
    objects.delete(keys)
    assert list(objects.walk()) == []


def test_a_large_file_goes_and_comes_in_pieces(objects: Objects, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "new" / "back"
    there.write_bytes(os.urandom(2**20) * 24)
    objects.write("large", there)
    assert objects.download("large", back)
    assert back.read_bytes() == there.read_bytes() and [*back.parent.iterdir()] == [back]
    (entry,) = objects.walk()
    assert isinstance(entry, Entry) and entry.size == 24 * 2**20


def test_a_folder_goes_and_comes(objects: Objects, tmp_path: Path) -> None:
    for name in ("a", "b c/d", "b c/e#"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, "utf-8")
    upload_folder(objects, tmp_path / "folder", "units/1")
    upload_folder(objects, tmp_path / "folder", "units/2", ["a"])
    assert [e.key for e in objects.walk()] == ["units/1/a", "units/1/b c/d", "units/1/b c/e#", "units/2/a"]
    targets = {f"units/1/{name}": tmp_path / "back" / name for name in ("a", "b c/d", "b c/e#", "f")}
    assert download_all(objects, targets) == ["units/1/f"]
    assert all(path.read_text("utf-8") == key[8:] for key, path in targets.items() if key != "units/1/f")


def test_the_mark_of_an_empty_folder_is_no_object(bucket: Bucket) -> None:
    above = Objects.at(bucket.uri("x"))
    above.write("out", b"")  # a console writes it as out/, which clients read as out
    below = Objects.at(bucket.uri("x/out"))
    below.write("a", b"1")
    assert below.names("") == ["a"] and [entry.key for entry in below.walk()] == ["a"]


def test_a_probe_leaves_nothing(objects: Objects) -> None:
    objects.probe()
    assert list(objects.walk()) == []
