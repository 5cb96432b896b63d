"""Tables as people's programs write them: read as they are meant, or refused with what to do."""

from __future__ import annotations

import codecs
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.errors import DataError
from tests.support.data.dataset_files import load, put
from tests.support.ingesting import inspected
from tests.support.public import HEADER, ROWS, csv_text, image_folder, json_lines, plain, read


def text_of(root: Path) -> str:
    """The table as it was written."""
    return (image_folder(root) / "metadata.csv").read_text("utf-8")


def test_a_long_cell_in_a_further_column(tmp_path: Path) -> None:
    image_folder(tmp_path, lambda row: (*row, "A" * 200_000 if "00007" in row[0] else "short"), (*HEADER, "embedding"))
    assert read(tmp_path).entries == plain(tmp_path)


def test_a_first_line_above_a_megabyte(tmp_path: Path) -> None:
    image_folder(tmp_path)
    rows = [dict(zip(HEADER, row, strict=True)) | {"vector": "1" * 2_000_000} for row in ROWS[:2]]
    for row in rows:
        row["file_name"] = f"images/{row['file_name']}"
    (tmp_path / "metadata.csv").unlink()
    put(tmp_path / "metadata.jsonl", json_lines(rows))
    assert read(tmp_path).entries == plain(tmp_path)[:2]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_other_separators_than_commas(tmp_path: Path, separator: str, mark: bytes) -> None:
    rows = [line.split(",") for line in text_of(tmp_path).splitlines()]
    put(tmp_path / "metadata.csv", mark + csv_text(rows, separator, "\r\n").encode())
    assert read(tmp_path).entries == plain(tmp_path)


def test_excels_line_that_says_the_separator(tmp_path: Path) -> None:
    rows = [line.split(",") for line in text_of(tmp_path).splitlines()]
    put(tmp_path / "metadata.csv", "sep=:\r\n" + csv_text(rows, ":"))
    assert read(tmp_path).entries == plain(tmp_path)
    put(tmp_path / "metadata.csv", "sep=:\r\n" + csv_text(rows, ":") + "x:y\n")
    with pytest.raises(DataError, match="line 27: fewer values than columns"):
        load(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_encodings_with_a_mark(tmp_path: Path, encoding: str) -> None:
    put(tmp_path / "metadata.csv", text_of(tmp_path).encode(encoding))
    assert read(tmp_path).entries == plain(tmp_path)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("cp1252", r"is not UTF-8 \(line 2\); save it as UTF-8, for example: iconv"), ("utf-16-le", "is UTF-16 without a byte order mark")],
)  # fmt: skip
def test_encodings_without_a_mark_are_named(tmp_path: Path, encoding: str, message: str) -> None:
    put(tmp_path / "metadata.csv", text_of(tmp_path).replace("cat", "K\u00e4tzchen").encode(encoding))
    with pytest.raises(DataError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("name", ["filename", "image_file_name", "File Name", "FILE-NAME", " file_name", "file"])
def test_other_names_of_the_column_of_files(tmp_path: Path, name: str) -> None:
    image_folder(tmp_path, header=(name, *HEADER[1:]))
    assert read(tmp_path).entries == plain(tmp_path)


def test_two_columns_that_name_files(tmp_path: Path) -> None:
    header = ("left_file_name", *HEADER[1:], "right_file_name")
    image_folder(tmp_path, lambda row: (*row, row[0]), header)
    with pytest.raises(DataError, match="has no column 'file_name'"):
        load(tmp_path)
    assert read(tmp_path, format="folder", options={"file_column": "left_file_name"}).entries == plain(tmp_path)


def test_columns_in_another_spelling(tmp_path: Path) -> None:
    image_folder(tmp_path, header=("File_Name", " Label", "ATTRIBUTE", "Split "))
    assert read(tmp_path).entries == plain(tmp_path)
    image_folder(tmp_path, lambda row: (*row, "x"), ("file_name", "Label", "attribute", "split", "label "))
    with pytest.raises(DataError, match="no column 'label', but 'Label' and 'label ', which differ by spelling alone"):
        load(tmp_path)


def test_a_table_by_another_name(tmp_path: Path) -> None:
    image_folder(tmp_path, lambda row: (row[0], row[1], row[2]), ("Path", "y", "a"))
    names = {"train": "faces_label_train.csv", "val": "faces_label_val.csv", "test": "faces_label_test.csv"}
    rows = {split: [(f"images/{name}", y, a) for name, y, a, s in ROWS if s == split] for split in names}
    (tmp_path / "metadata.csv").unlink()
    for split, name in names.items():
        put(tmp_path / name, csv_text([("Path", "y", "a"), *rows[split]]))
    with pytest.raises(DataError, match="is not recognised") as caught:
        load(tmp_path)
    assert "--data.format folder --data.options '{table: [faces_label_test.csv, faces_label_train.csv" in str(
        caught.value
    )
    options = {"table": sorted(names.values()), "file_column": "Path"}
    found = read(tmp_path, format="folder", options=options, label_column="y", attribute_column="a")
    assert found.entries == plain(tmp_path)


@pytest.mark.parametrize("broken", ["label", "columns"])
def test_the_reason_of_the_reader_that_nearly_fitted_is_told(tmp_path: Path, broken: str) -> None:
    image_folder(tmp_path, header=("pictures", "label", "attribute", "split"))
    with pytest.raises(DataError, match="has no column 'file_name'; it has: pictures, label"):
        load(tmp_path)
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "metadata.csv").symlink_to(tmp_path / "metadata.csv")
    with pytest.raises(DataError, match=r"is a link that leaves the dataset; .*--data\.follow_links true"):
        load(snapshot)


def test_values_that_are_lists_or_objects(tmp_path: Path) -> None:
    image_folder(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    rows: list[dict[str, object]] = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
    put(tmp_path / "metadata.jsonl", json_lines([row | {"label": [row["label"]]} for row in rows]))
    with pytest.raises(DataError, match=r"line 1: label is a list; one value is needed \(and 23 more like it\)"):
        load(tmp_path)
    put(tmp_path / "metadata.jsonl", json_lines([row | {"attribute": {"place": "in"}} for row in rows]))
    with pytest.raises(DataError, match="line 1: attribute is an object; one value is needed"):
        load(tmp_path)
    table = pa.table(
        {"file_name": ["a.jpg"] * 2, "label": [["x"], ["y"]], "attribute": ["p"] * 2, "split": ["train"] * 2}
    )
    (tmp_path / "other").mkdir()
    pq.write_table(table, tmp_path / "other" / "metadata.parquet")
    with pytest.raises(DataError, match="the column label holds lists; one value is needed"):
        load(tmp_path / "other")
    # A further column may hold anything.
    put(tmp_path / "metadata.jsonl", json_lines([row | {"box": [1, 2]} for row in rows]))
    assert len(load(tmp_path).entries) == len(ROWS)


def test_inspect_lists_every_bad_row_beside_all_other_findings(tmp_path: Path) -> None:
    image_folder(tmp_path)
    table = (tmp_path / "metadata.csv").read_text("utf-8")
    bad = "../x.jpg,cat,in,train\n/etc/passwd,dog,in,val\nimages/00000.jpg,dog,out,test\nimages/n.jpg,cat\nimages/00001.jpg,cat,in,later\n"
    put(tmp_path / "metadata.csv", table + bad + "images/new.jpg,,in,train\n")
    found = inspected(tmp_path)
    details = {image["path"]: (image["reason"], image["detail"]) for image in found["quarantine"]["files"]}
    assert details["../x.jpg"][0] == "outside_root" and "row 26" in details["../x.jpg"][1]
    assert details["/etc/passwd"][0] == "outside_root" and "row 27" in details["/etc/passwd"][1]
    assert details["images/00000.jpg"][0] == "different_rows" and details["metadata.csv, line 29"][0] == "malformed_row"
    problems = "\n".join(found["problems"])
    for part in (
        "file name '../x.jpg' must be",
        "and 1 more like it",
        "fewer values",
        "twice with different",
        "1 rows have an empty label",
    ):
        assert part in problems
    assert found["images"]["input"] == 30 == sum(found["images"][name] for name in ("used", "quarantined", "excluded"))
    assert (
        sum(group[split] for group in found["groups"] for split in ("train", "val", "test")) == found["images"]["used"]
    )
    with pytest.raises(DataError, match=r"and \d more problems: 'fairsynth inspect' lists them all"):
        load(tmp_path)
