"""Tables of metadata: text stays text, columns and splits have their words, and broken tables are refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.config import DataConfig
from fairsynth.config.values import plain_value
from fairsynth.data import dataset
from fairsynth.data.metadata import Entry
from fairsynth.data.storage import Storage
from fairsynth.data.tables.table import as_text
from fairsynth.errors import DataError
from tests.support.data.dataset_files import csv_bytes, load, put, write_table
from tests.support.data.metadata import HEADER, ODD, ROWS, Rows, entries, refusal


def raw(path: Path, content: bytes) -> list[Entry]:
    """Write these bytes as metadata.csv, and read them."""
    (path / "metadata.csv").write_bytes(content)
    return load(path).entries


def test_columns_may_have_other_names_and_any_order(tmp_path: Path) -> None:
    rows = [(a, "ignored", y, name, split) for name, split, y, a in ROWS]
    header = ("place", "label", "bird", "file_name", "split")
    assert entries(tmp_path, rows, header, label_column="bird", attribute_column="place") == [Entry(*r) for r in ROWS]


def test_several_attribute_columns_combine(tmp_path: Path) -> None:
    rows = [(*row, {"p": "1", "q": "-1"}[row[3]]) for row in ROWS]
    found = entries(
        tmp_path, rows, ("file_name", "split", "label", "Male", "Young"), attribute_column=("Young", "Male")
    )
    assert {entry.attribute for entry in found} == {"Young=1, Male=p", "Young=-1, Male=q"}
    rows[0] = (*rows[0][:4], "")
    assert "1 rows have an empty attribute" in refusal(
        tmp_path, rows, ("file_name", "split", "label", "Male", "Young"), attribute_column=("Male", "Young")
    )


def test_an_attribute_to_be_discovered_stays_hidden(tmp_path: Path) -> None:
    found = entries(tmp_path, ROWS, attribute="discover", attribute_column="attribute")
    assert {entry.attribute for entry in found} == {""} and {entry.true_attribute for entry in found} == {"p", "q"}
    assert {entry.true_attribute for entry in entries(tmp_path, ROWS, attribute="discover")} == {""}


@pytest.mark.parametrize(("word", "split"), [("val", "val"), ("VAL", "val"), ("valid", "val"), ("validation", "val"),
    (" val ", "val"), ("dev", "val"), ("Training", "train"), ("testing", "test")])  # fmt: skip
def test_words_for_splits(tmp_path: Path, word: str, split: str) -> None:
    rows = [(name, word if s == split else s, y, a) for name, s, y, a in ROWS]
    assert entries(tmp_path, rows) == [Entry(*row) for row in ROWS]


def test_a_missing_column_is_named_with_a_guess(tmp_path: Path) -> None:
    message = refusal(tmp_path, ROWS, ("file_name", "split", "labels", "attribute"))
    assert "no column 'label' (did you mean 'labels'?); it has: file_name, split, labels, attribute" in message
    assert "did you mean" not in refusal(tmp_path, ROWS, ("file_name", "split", "zzz", "attribute"))
    assert "no column 'hair'" in refusal(tmp_path, ROWS, label_column="hair")
    assert "the column 'label' 2 times" in refusal(tmp_path, ROWS, ("file_name", "label", "label", "attribute"))


def test_broken_tables_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, [*ROWS, ("z.png", "extra", "x", "p")])
    assert (
        "split is 'extra'; allowed: train (training), val (valid, validation, dev), test (testing); 1 images, first: 'z.png'"
        in message
    )
    assert "has no rows" in refusal(tmp_path, [])
    assert "line 14: fewer values than columns" in refusal(tmp_path, [*ROWS, ("z.png", "train", "x")])
    assert "line 14: more values than columns" in refusal(tmp_path, [*ROWS, ("z.png", "train", "x", "p", "")])
    for content, expected in (
        (b"", "no column 'file_name'; it has: none"),
        (
            csv_bytes([HEADER, *ROWS]) + b'z.png,train,x,"p\n' + csv_bytes(ROWS),
            "line 26: not valid CSV: unexpected end",
        ),
        (csv_bytes([HEADER, *ROWS]) + b'z.png,train,x,"p"q\n', "line 14: not valid CSV"),
    ):
        with pytest.raises(DataError, match=expected):
            raw(tmp_path, content)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "line 13: not valid JSON"),
        ("[1]", "line 13: must be an object"),
        ("[" * 100_000, "line 13: not valid JSON"),
        ('{"file_name": "z.png", "split": "train", "label": "\\ud800", "attribute": "p"}', "line 13: not valid JSON"),
        ('{"file_name": "\\ud800.png", "split": "train", "label": "x", "attribute": "p"}', "line 13: not valid JSON"),
        ('{"file_name": "z.png", "split": "train", "attribute": "p"}', "1 rows have an empty label"),
        ('{"split": "train", "label": "x", "attribute": "p"}', "file name '' must be a relative path"),
        ('{"file_name": "z.png", "label": "x", "attribute": "p"}', "1 images have no split, the others have one"),
    ],
)
def test_broken_json_lines_are_refused(tmp_path: Path, line: str, expected: str) -> None:
    write_table(tmp_path / "metadata.jsonl", HEADER, ROWS)
    with open(tmp_path / "metadata.jsonl", "a") as handle:
        handle.write(line + "\n")
    with pytest.raises(DataError, match=expected):
        load(tmp_path)


def test_broken_parquet_tables_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "metadata.parquet", HEADER, ROWS)
    content = (tmp_path / "metadata.parquet").read_bytes()
    for broken in (content[:-20], content[:4] + bytes(200) + content[204:], b"PAR1", b"x"):
        put(tmp_path / "metadata.parquet", broken)
        with pytest.raises(DataError, match=r"metadata\.parquet is not a readable Parquet file"):
            load(tmp_path, format="folder")
    not_utf8 = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    columns = {name: pa.array(["train"]) for name in HEADER} | {"label": not_utf8}
    pq.write_table(pa.table(columns), tmp_path / "metadata.parquet")
    with pytest.raises(DataError, match=r"metadata\.parquet: label: a value cannot be read: .utf-8. codec"):
        load(tmp_path)


@pytest.mark.parametrize("rows_before", [len(ROWS), 2000])
def test_latin_1_is_refused_with_its_line(tmp_path: Path, rows_before: int) -> None:
    rows = (list(ROWS) * 200)[:rows_before]
    with pytest.raises(DataError, match=rf"not UTF-8 \(line {rows_before + 2}\); save it as UTF-8"):
        raw(tmp_path, csv_bytes([HEADER, *rows]) + "café.png,train,x,p\n".encode("latin-1"))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_marks_and_line_ends_make_no_difference(tmp_path: Path, mark: bytes, end: str) -> None:
    assert raw(tmp_path, mark + csv_bytes([HEADER, *ROWS], end)) == [Entry(*row) for row in ROWS]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_values_stay_the_text_that_they_are(tmp_path: Path, suffix: str) -> None:
    rows = [(f"{i}-{split}.png", split, v, v) for i, v in enumerate(ODD) for split in ("train", "val", "test")]
    write_table(tmp_path / f"metadata.{suffix}", HEADER, rows)
    assert load(tmp_path).entries == [Entry(*row) for row in rows]


def test_numbers_of_typed_tables_become_plain_text(tmp_path: Path) -> None:
    values = [1, 1.0, -1, 0.5, True, 10**20, None, float("nan"), "1.0"]
    assert [as_text(value, "x") for value in values] == ["1", "1", "-1", "0.5", "true", str(10**20), "", "", "1.0"]
    names = [row[0] for row in ROWS]
    columns = {"file_name": names, "split": [row[1] for row in ROWS], "label": [0, 0, 1, 1] * 3}
    floats = pa.array([0.0, 1.0] * 6)  # as pandas writes whole numbers of which one is missing
    pq.write_table(pa.table(columns | {"attribute": floats}), tmp_path / "metadata.parquet")
    assert [(e.label, e.attribute) for e in load(tmp_path).entries][:4] == [
        ("0", "0"),
        ("0", "1"),
        ("1", "0"),
        ("1", "1"),
    ]
    lines = [json.dumps(dict(zip(HEADER, (r[0], r[1], i % 2, i % 4 > 1), strict=True))) for i, r in enumerate(ROWS)]
    (tmp_path / "metadata.parquet").unlink()
    put(tmp_path / "metadata.jsonl", "\n".join(lines))
    assert {(e.label, e.attribute) for e in load(tmp_path).entries} == {(y, a) for y in "01" for a in ("true", "false")}


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_rows = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), max_size=12),
        st.sampled_from(["train", "val", "test"]),
        _text,
        _text,
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(rows=_rows, suffix=st.sampled_from(["csv", "jsonl", "parquet"]))
def test_any_text_is_read_as_it_was_written(rows: Rows, suffix: str) -> None:
    rows = [(f"{number}{name}", *rest) for number, (name, *rest) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as root:
        write_table(Path(root) / f"metadata.{suffix}", HEADER, rows)
        config = DataConfig(root=root, format="folder")
        expected = [Entry(name, split, plain_value(y), plain_value(a)) for name, split, y, a in rows]
        assert dataset.reader("folder").read(Storage(root), config).entries == expected
