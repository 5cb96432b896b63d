"""Rows that are refused, dropped or kept: paths out of the folder, rows twice, unknown values, groups to learn."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config import DataConfig
from fairsynth.data.metadata import Entry
from fairsynth.data.storage import Storage
from fairsynth.data.tables.table import safe_path
from fairsynth.errors import DataError
from fairsynth.stages.ingest.decide import check_groups
from tests.support.data.dataset_files import load
from tests.support.data.metadata import BIRDS, HEADER, ROWS, Rows, entries, refusal
from tests.support.datasets import write_rows

ESCAPES = [
    "../x.png", "a/../../x.png", "a/../x.png", "..", "a/..", "/etc/passwd", "//etc/passwd", "/", "file:///etc/passwd", "file://x", "s3://b/k.png",
    "http://h/x.png", "https://h/../x", "gs://b/x", "hf://d/x", "", "a\0.png", "./../x.png", "x/./../../y.png", "a//../../b", ".", "./",
    "C:\\Windows\\x.png", "c:/x.png", "\\\\server\\share\\x.png", "\\\\?\\C:\\x.png",
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    expected = f"file name {name!r} must be a relative path inside {tmp_path}"
    assert expected in refusal(tmp_path, [*ROWS, (name, "train", "x", "p")])
    assert expected in refusal(tmp_path, [("1", name, "0", "0", "0", "f")], BIRDS)


@pytest.mark.parametrize("name", ["a/b.png", "..a.png", "a..b/c.png", "~/x.png", "日本/é.png", "-rf", "a b.png", "....", "C:x.png", "a\\b"])  # fmt: skip
def test_odd_paths_inside_the_folder_are_kept(tmp_path: Path, name: str) -> None:
    assert safe_path(Storage(str(tmp_path)), name) == name
    assert safe_path(Storage(str(tmp_path)), f"./{name}") == name


def test_equal_rows_are_no_conflict_and_different_ones_are(tmp_path: Path) -> None:
    write_rows(tmp_path / "metadata.csv", HEADER, [*ROWS, ROWS[0], ROWS[0]])
    metadata = load(tmp_path)
    assert metadata.entries == [Entry(*row) for row in ROWS]
    assert [(image.path, image.reason) for image in metadata.excluded] == [("train-xp.png", "equal_row")] * 2
    for changed in (("val", "x", "p"), ("train", "y", "p"), ("train", "x", "q")):
        message = refusal(tmp_path, [*ROWS, ("./train-xp.png", *changed)])
        assert "'train-xp.png' twice with different label, attribute or split" in message


def test_unknown_values_are_refused_dropped_or_a_group(tmp_path: Path) -> None:
    rows = [*ROWS, ("e.png", "train", "", "p"), ("f.png", "val", "x", " "), ("g.png", "test", "x", "")]
    assert "1 rows have an empty label (values: 'x' 8, 'y' 6)" in refusal(tmp_path, rows)
    assert (
        "2 rows have an empty attribute (values: 'p' 6, 'q' 6); fill it in, or set --data.unknown to drop or own_group"
        in (refusal(tmp_path, [row for row in rows if row[2]]))
    )
    write_rows(tmp_path / "metadata.csv", HEADER, rows)
    metadata = load(tmp_path, unknown="drop")
    assert metadata.entries == [Entry(*row) for row in ROWS]
    assert [image.reason for image in metadata.excluded] == ["unknown_label", "unknown_attribute", "unknown_attribute"]
    assert [e.attribute for e in entries(tmp_path, [*ROWS, *rows[-2:]], unknown="own_group")][-2:] == ["unknown"] * 2


def test_groups_that_cannot_be_learnt_are_refused(tmp_path: Path) -> None:
    def check(rows: Rows) -> str:
        with pytest.raises(DataError) as caught:
            check_groups(entries(tmp_path, rows), DataConfig())
        return str(caught.value)

    assert "label 'z' occurs only outside the training split; training has: x, y" in check(
        [*ROWS, ("t.png", "test", "z", "p")]
    )
    assert "single label 'x'" in check([row for row in ROWS if row[2] == "x"])
    assert "same attribute" in check([row for row in ROWS if row[3] == "p"])
    for split in ("train", "val", "test"):
        assert f"no images in split '{split}'" in check([row for row in ROWS if row[1] != split])
