"""Reading metadata: text stays text, and everything unusable is refused before an image is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config import DataConfig
from fairsynth.data import folder, waterbirds
from fairsynth.data.table import Entry, safe_path
from fairsynth.errors import DataError
from fairsynth.stages.ingest import read_entries
from tests.worlds import COUNTS, tiny_waterbirds, write_rows

HEADER = ("file_name", "split", "label", "attribute")
GROUPS = [(y, a) for y in "xy" for a in "pq"]
ROWS = [(f"{split}-{y}{a}.png", split, y, a) for split in ("train", "val", "test") for y, a in GROUPS]
BIRDS = ("img_id", "img_filename", "y", "split", "place", "place_filename")


def entries(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = HEADER, **options: str) -> list[Entry]:
    """Write a folder dataset's metadata and read it back as the pipeline does."""
    write_rows(path / "metadata.csv", header, rows)
    return read_entries(DataConfig(root=str(path), **options))


def refusal(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = HEADER, **options: str) -> str:
    """The message with which the metadata is refused."""
    with pytest.raises(DataError) as caught:
        entries(path, rows, header, **options)
    return str(caught.value)


def raw(
    path: Path, rows: list[tuple[str, ...]], end: str = "\n", before: bytes = b"", after: bytes = b""
) -> list[Entry]:
    """Write rows as plain CSV with these line ends and bytes around, and read them."""
    (path / "metadata.csv").write_bytes(
        before + "".join(",".join(row) + end for row in [HEADER, *rows]).encode() + after
    )
    return read_entries(DataConfig(root=str(path)))


def test_folder_rows_become_entries_in_order(tmp_path: Path) -> None:
    assert entries(tmp_path, ROWS) == [Entry(*row) for row in ROWS]


def test_columns_may_have_other_names_and_any_order(tmp_path: Path) -> None:
    rows = [(a, "ignored", y, name, split) for name, split, y, a in ROWS]
    found = entries(
        tmp_path, rows, ("place", "label", "bird", "file_name", "split"), label_column="bird", attribute_column="place"
    )
    assert found == [Entry(*row) for row in ROWS]


@pytest.mark.parametrize("word", ["val", "VAL", "valid", "validation", " val "])
def test_words_for_the_validation_split(tmp_path: Path, word: str) -> None:
    assert [e.split for e in entries(tmp_path, [(n, word if s == "val" else s, y, a) for n, s, y, a in ROWS])] == [
        row[1] for row in ROWS
    ]


def test_waterbirds_codes(tmp_path: Path) -> None:
    found = waterbirds.read(DataConfig(root=str(tiny_waterbirds(tmp_path)), format="waterbirds"))
    assert len(found) == 32 and all((tmp_path / e.path).is_file() for e in found)
    for split, sizes in COUNTS.items():
        groups = [(e.label, e.attribute) for e in found if e.split == split]
        assert [groups.count((y, a)) for y in "01" for a in "01"] == list(sizes)


@pytest.mark.parametrize("split", ["3", "train", "", "-1", "0.0"])
def test_waterbirds_split_must_be_a_code(tmp_path: Path, split: str) -> None:
    write_rows(
        tmp_path / "metadata.csv", BIRDS, [("1", "a.jpg", "0", "0", "0", "f"), ("2", "b.jpg", "0", split, "0", "f")]
    )
    with pytest.raises(DataError, match=r"row 3: split is '.*'; allowed: 0 \(train\), 1 \(validation\), 2 \(test\)"):
        waterbirds.read(DataConfig(root=str(tmp_path), format="waterbirds"))


def test_there_must_be_a_dataset(tmp_path: Path) -> None:
    for root, message in (
        (tmp_path / "no", "does not exist"),
        (tmp_path, "metadata.csv does not exist.*file_name, label, attribute, split"),
    ):
        with pytest.raises(DataError, match=message):
            folder.read(DataConfig(root=str(root)))
    with pytest.raises(DataError, match=r"--data\.root"):
        folder.read(DataConfig())


def test_a_missing_column_is_named_with_a_guess(tmp_path: Path) -> None:
    message = refusal(tmp_path, ROWS, ("file_name", "split", "labels", "attribute"))
    assert "no column 'label' (did you mean 'labels'?); it has: file_name, split, labels, attribute" in message
    assert "did you mean" not in refusal(tmp_path, ROWS, ("file_name", "split", "zzz", "attribute"))
    assert "no column 'hair'" in refusal(tmp_path, ROWS, label_column="hair")


def test_broken_tables_are_refused(tmp_path: Path) -> None:
    assert "row 14: split is 'dev'; allowed: train, val, test" in refusal(tmp_path, [*ROWS, ("z.png", "dev", "x", "p")])
    assert "has no rows" in refusal(tmp_path, [])
    assert "row 14: fewer values than columns" in refusal(tmp_path, [*ROWS, ("z.png", "train", "x")])
    (tmp_path / "metadata.csv").write_bytes(b"")
    with pytest.raises(DataError, match="it has: none"):
        read_entries(DataConfig(root=str(tmp_path)))


@pytest.mark.parametrize(
    "rows_before",
    [
        len(ROWS),
        2000,
    ],
)
def test_latin_1_is_refused_with_its_line(tmp_path: Path, rows_before: int) -> None:
    with pytest.raises(DataError, match=rf"not UTF-8 \(line {rows_before + 2}\); save it as UTF-8"):
        raw(tmp_path, (ROWS * 200)[:rows_before], after="café.png,train,x,p\n".encode("latin-1"))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_marks_and_line_ends_make_no_difference(tmp_path: Path, mark: bytes, end: str) -> None:
    assert raw(tmp_path, ROWS, end, before=mark) == [Entry(*row) for row in ROWS]


def test_values_stay_the_text_that_they_are(tmp_path: Path) -> None:
    odd = [
        "NA",
        "None",
        "01",
        "1.0",
        "true",
        "null",
        "a,b",
        'say "x"',
        "two\nlines",
        "=1+1",
        "-1",
        "日本",
        " x ",
        "<img src=x>",
        "0",
    ]
    rows = [
        (f"{i}-{split}.png", split, value, value) for i, value in enumerate(odd) for split in ("train", "val", "test")
    ]
    assert [(e.label, e.attribute) for e in entries(tmp_path, rows)] == [(row[2], row[3]) for row in rows]


ESCAPES = [
    "../x.png", "a/../../x.png", "a/../x.png", "..", "a/..", "/etc/passwd", "//etc/passwd", "/", "file:///etc/passwd", "file://x", "s3://b/k.png",
    "http://h/x.png", "https://h/../x", "gs://b/x", "hf://d/x", "", "a\0.png", "./../x.png", "x/./../../y.png", "a//../../b",
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    assert "must be a relative path inside" in refusal(tmp_path, [*ROWS, (name, "train", "x", "p")])
    write_rows(tmp_path / "metadata.csv", BIRDS, [("1", name, "0", "0", "0", "f")])
    with pytest.raises(DataError, match="must be a relative path inside"):
        waterbirds.read(DataConfig(root=str(tmp_path), format="waterbirds"))


@pytest.mark.parametrize(
    "name",
    ["a/b.png", "..a.png", "a..b/c.png", "~/x.png", "日本/é.png", "-rf", "a b.png", "....", "C:x.png", "a\\..\\b"],
)
def test_odd_paths_inside_the_folder_are_kept(tmp_path: Path, name: str) -> None:
    assert safe_path(tmp_path, name) == name
    assert safe_path(tmp_path, f"./{name}") == name


def test_equal_rows_are_no_conflict_and_different_ones_are(tmp_path: Path) -> None:
    assert set(entries(tmp_path, [*ROWS, ROWS[0], ROWS[0]])) == {Entry(*row) for row in ROWS}
    for changed in (("val", "x", "p"), ("train", "y", "p"), ("train", "x", "q")):
        message = refusal(tmp_path, [*ROWS, ("./train-xp.png", *changed)])
        assert "'train-xp.png' twice with different label, attribute or split" in message


def test_groups_that_cannot_be_learnt_are_refused(tmp_path: Path) -> None:
    assert "label 'z' occurs only outside the training split; training has: x, y" in refusal(
        tmp_path, [*ROWS, ("t.png", "test", "z", "p")]
    )
    assert "single label 'x'" in refusal(tmp_path, [row for row in ROWS if row[2] == "x"])
    assert "same attribute" in refusal(tmp_path, [row for row in ROWS if row[3] == "p"])
    assert "1 rows have an empty label" in refusal(tmp_path, [*ROWS, ("e.png", "train", "", "p")])
    assert "2 rows have an empty attribute" in refusal(
        tmp_path, [*ROWS, ("e.png", "val", "x", ""), ("f.png", "test", "x", "")]
    )
    for split in ("train", "val", "test"):
        assert f"no images in split '{split}'" in refusal(tmp_path, [row for row in ROWS if row[1] != split])
