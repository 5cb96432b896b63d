"""What systems and network disks put among a dataset's files is left out, and counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from fairsynth.data.storage import Storage, is_hidden
from tests.support.data.dataset_files import image, load, not_listed, put
from tests.support.data.layouts import class_folders
from tests.support.store.object_store import object_store

Place = Callable[[Path], AbstractContextManager[Storage]]


@contextmanager
def on_disk(folder: Path) -> Iterator[Storage]:
    """The folder ``data`` as it lies."""
    yield Storage(str(folder / "data"))


@contextmanager
def in_a_bucket(folder: Path) -> Iterator[Storage]:
    """The same in an object store."""
    with pytest.MonkeyPatch.context() as patch, object_store(folder) as query:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        yield Storage(f"s3://bucket/data?{query}")


@pytest.mark.parametrize("place", [on_disk, in_a_bucket])
def test_folders_of_the_system_are_hidden_and_counted(place: Place, tmp_path: Path) -> None:
    names = (
        "a.png", "x/b.png", "x/@eaDir/b.png/SYNOPHOTO_THUMB_M.jpg", "x/@eaDir/b.png/SYNOPHOTO_THUMB_S.jpg", "@eaDir/a.png/1.jpg",
        "#recycle/x/c.png", "$RECYCLE.BIN/S-1-5/c.png", "$Recycle.Bin/c.png", "lost+found/.hidden.png", "__MACOSX/x/._b.png",
        "System Volume Information/1.png", "#snapshot/GMT-2026/x/b.png", ".git/@eaDir/c.png", "x/.d.png", "x/Thumbs.db", "desktop.ini",
    )  # fmt: skip
    for name in names:
        put(tmp_path / "data" / name, "x")
    with place(tmp_path) as storage:
        for _ in range(2):
            assert [file.path for file in storage.files()] == ["a.png", "x/b.png"]
            assert storage.hidden == Counter(
                {"@eaDir": 3, "$RECYCLE.BIN": 1, "$Recycle.Bin": 1, "#recycle": 1, "lost+found": 1, "__MACOSX": 1,
                 "System Volume Information": 1, "#snapshot": 1}
            )  # fmt: skip
            storage.stamp({"a.png"})
        assert storage.names() == ["a.png", "x"] and storage.names("x") == ["b.png"]


def test_what_people_may_call_so_stays(tmp_path: Path) -> None:
    names = (
        "Thumbs/a.png",
        "thumbnails/b.png",
        "recycle/c.png",
        "lost/d.png",
        "@home/e.png",
        "#1/f.png",
        "snapshot/g.png",
    )
    for name in names:
        put(tmp_path / name, "x")
    storage = Storage(str(tmp_path))
    assert sorted(names) == [file.path for file in storage.files()] and not storage.hidden
    assert not any(map(is_hidden, ("eaDir", "Thumbs", "thumbs.db.png", "lost+found2")))


def test_empty_unreadable_and_linked_ones_are_no_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "data" / "a.png", "x")
    put(tmp_path / "other" / "b.png", "x")
    (tmp_path / "data" / "#recycle").mkdir()
    (tmp_path / "data" / "lost+found").mkdir()
    (tmp_path / "data" / "@eaDir").symlink_to(tmp_path / "other", target_is_directory=True)
    not_listed(monkeypatch, b"lost+found")
    storage = Storage(str(tmp_path / "data"), follow_links=True)
    assert [file.path for file in storage.files()] == ["a.png"]
    assert storage.hidden == Counter() and storage.not_followed == []


def test_previews_of_a_network_disk_do_not_decide_the_layout(tmp_path: Path) -> None:
    class_folders(tmp_path)
    plain = load(tmp_path)
    for entry in plain.entries:
        folder, name = os.path.split(tmp_path / entry.path)
        for size in "SML":
            put(Path(folder) / "@eaDir" / name / f"SYNOPHOTO_THUMB_{size}.jpg", image(0))
    assert load(tmp_path).entries == plain.entries
