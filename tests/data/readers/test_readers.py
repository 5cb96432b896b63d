"""Reading metadata, whatever the layout: text stays text, and everything unusable is refused before an image is opened."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.config import DataConfig, formats
from fairsynth.data import dataset
from fairsynth.data.location import ImageReader
from fairsynth.data.reading import Entry
from fairsynth.data.storage import Storage
from fairsynth.data.table import as_text, safe_path
from fairsynth.errors import ConfigError, DataError
from fairsynth.stages.ingest.settle import check_groups
from tests.support.datasets import COUNTS, tiny_waterbirds, write_rows
from tests.support.layouts import (
    LAYOUTS,
    WATERBIRDS,
    csv_bytes,
    image,
    load,
    put,
    sizes,
    utkface,
    waterbirds_table,
    webdataset,
    write_table,
)

HEADER = ("file_name", "split", "label", "attribute")
GROUPS = [(y, a) for y in "xy" for a in "pq"]
Rows = Sequence[tuple[str, ...]]
ROWS: Rows = [(f"{split}-{y}{a}.png", split, y, a) for split in ("train", "val", "test") for y, a in GROUPS]
BIRDS = ("img_id", "img_filename", "y", "split", "place", "place_filename")


def entries(path: Path, rows: Rows, header: tuple[str, ...] = HEADER, **options: Any) -> list[Entry]:
    """Write a folder dataset's metadata and read it back as the pipeline does."""
    write_rows(path / "metadata.csv", header, rows)
    return load(path, **options).entries


def refusal(path: Path, rows: Rows, header: tuple[str, ...] = HEADER, **options: Any) -> str:
    """The message with which the metadata is refused."""
    with pytest.raises(DataError) as caught:
        entries(path, rows, header, **options)
    return str(caught.value)


def raw(path: Path, content: bytes) -> list[Entry]:
    """Write these bytes as metadata.csv, and read them."""
    (path / "metadata.csv").write_bytes(content)
    return load(path).entries


def tree(root: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of every file and folder."""
    return {
        str(p): (hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "", p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_recognised_loads_and_gives_its_images_untouched(tmp_path: Path, name: str) -> None:
    expected, build, options = LAYOUTS[name]
    storage = Storage(str(build(tmp_path)))
    before = tree(tmp_path)
    assert dataset.recognise(storage) == expected
    reading = load(tmp_path, **options)
    assert reading == load(tmp_path, format=expected, **options)
    assert not reading.quarantined and len(reading.entries) >= 12
    assert {entry.split for entry in reading.entries} == {"train", "val", "test"} or "split_fractions" in options
    assert len({entry.path for entry in reading.entries}) == len(reading.entries)
    images = ImageReader(storage)
    assert len({images.read(entry.path, entry.location).sha256 for entry in reading.entries}) > 1
    assert tree(tmp_path) == before


def test_every_reader_has_a_layout_here() -> None:
    assert {expected for expected, _, _ in LAYOUTS.values()} == set(formats())


def test_what_no_reader_or_several_readers_recognise_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is not recognised \(it holds: nothing\); say which with --data\.format: celeba"
    ):
        load(tmp_path)
    put(tmp_path / "notes" / "x.txt", "nothing")
    put(tmp_path / "table.xlsx", "nothing")
    with pytest.raises(DataError, match=r"is not recognised \(it holds: notes, table\.xlsx\)"):
        load(tmp_path)
    LAYOUTS["parquet"][1](tmp_path)
    LAYOUTS["folder, csv"][1](tmp_path)
    with pytest.raises(DataError, match="could be folder or parquet"):
        load(tmp_path)
    assert len(load(tmp_path, format="folder").entries) == 12


def test_the_folder_above_a_dataset_is_no_class_folder(tmp_path: Path) -> None:
    tiny_waterbirds(tmp_path / "waterbird_complete95_forest2water2")
    with pytest.raises(DataError, match="is not recognised"):
        load(tmp_path)


def test_a_metadata_table_decides_whatever_lies_beside_it(tmp_path: Path) -> None:
    utkface(tmp_path / "a", "images")
    webdataset(tmp_path / "b")
    for root in (tmp_path / "a", tmp_path / "b"):
        write_rows(root / "metadata.csv", HEADER, ROWS)
        assert dataset.recognise(Storage(str(root))) == "folder"


@pytest.mark.parametrize("name", formats())
def test_options_that_a_format_does_not_know_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"the format {name} has no option 'colour'"):
        load(tmp_path, format=name, options={"colour": "red"})


@pytest.mark.parametrize("name", formats())
def test_an_empty_folder_is_refused_by_every_reader(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        load(tmp_path, format=name)


def test_waterbirds_codes(tmp_path: Path) -> None:
    reading = load(tiny_waterbirds(tmp_path))
    assert sizes(reading, [(y, a) for y in "01" for a in "01"]) == COUNTS
    assert all((tmp_path / entry.path).is_file() for entry in reading.entries)


def test_waterbirds_of_the_published_size_has_the_published_groups(tmp_path: Path) -> None:
    reading = load(waterbirds_table(tmp_path))
    assert sizes(reading, [(y, a) for y in "01" for a in "01"]) == WATERBIRDS
    assert len(reading.entries) == 11_788 and reading.remarks == []


@pytest.mark.parametrize("split", ["3", "train", "", "-1", "0.0"])
def test_waterbirds_split_must_be_a_code(tmp_path: Path, split: str) -> None:
    rows = [("1", "a.jpg", "0", "0", "0", "f"), ("2", "b.jpg", "0", split, "0", "f")]
    message = refusal(tmp_path, rows, BIRDS)
    assert f"row 3: split is {split!r}; allowed: 0 (train), 1 (validation), 2 (test)" in message


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
        "metadata.csv, row 14: split is 'extra'; allowed: train (training), val (valid, validation, dev), test"
        in message
    )
    assert "has no rows" in refusal(tmp_path, [])
    assert "line 14: fewer values than columns" in refusal(tmp_path, [*ROWS, ("z.png", "train", "x")])
    assert "line 14: more values than columns" in refusal(tmp_path, [*ROWS, ("z.png", "train", "x", "p", "")])
    for content, expected in (
        (b"", "is not recognised"),
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
        ('{"file_name": "z.png", "label": "x", "attribute": "p"}', "row 13: split is ''"),
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
    with pytest.raises(DataError, match=r"metadata\.parquet is not a readable Parquet file"):
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


ODD = ["NA", "None", "nan", "NaN", "01", "1.0", "1e3", "true", "null", "a,b", 'say "x"', "it's", "two\nlines", "cr\rlf\r\n", "=1+1",
    "-1", "日本", "caf\u00e9", "cafe\u0301", " x ", "<img src=x>", "0", "a/b", "a\\b", "../x", "N/A", "\ufeffx", "x\u2028y", "😀"]  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_values_stay_the_text_that_they_are(tmp_path: Path, suffix: str) -> None:
    rows = [(f"{i}-{split}.png", split, v, v) for i, v in enumerate(ODD) for split in ("train", "val", "test")]
    write_table(tmp_path / f"metadata.{suffix}", HEADER, rows)
    assert load(tmp_path).entries == [Entry(*row) for row in rows]


def test_numbers_of_typed_tables_become_plain_text(tmp_path: Path) -> None:
    values = [1, 1.0, -1, 0.5, True, 10**20, None, float("nan"), "1.0"]
    assert [as_text(value) for value in values] == ["1", "1", "-1", "0.5", "true", str(10**20), "", "", "1.0"]
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
        assert dataset.reader("folder").read(Storage(root), config).entries == [Entry(*row) for row in rows]


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
    reading = load(tmp_path)
    assert reading.entries == [Entry(*row) for row in ROWS]
    assert [(aside.path, aside.reason) for aside in reading.excluded] == [("train-xp.png", "equal_row")] * 2
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
    reading = load(tmp_path, unknown="drop")
    assert reading.entries == [Entry(*row) for row in ROWS]
    assert [aside.reason for aside in reading.excluded] == ["unknown_label", "unknown_attribute", "unknown_attribute"]
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


BIG = """
import re, sys, time
from pathlib import Path
from fairsynth.config import DataConfig
from fairsynth.data import dataset
from fairsynth.data.storage import Storage
start = time.process_time()  # others may use the machine as well
config = DataConfig(root=sys.argv[1])
reading = dataset.load(config, Storage(config.root))
seconds = time.process_time() - start
# Not ru_maxrss: that begins with the size of the process that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(len(reading.entries), seconds, peak)
"""


def cost_of_loading(root: Path) -> tuple[int, float, float]:
    """Entries, seconds and peak MB of loading a dataset in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", BIG, str(root)], capture_output=True, text=True, check=True, timeout=120
    )
    n, seconds, peak = result.stdout.split()
    return int(n), float(seconds), float(peak)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says the peak")
def test_two_hundred_thousand_rows_load_fast_in_little_memory(tmp_path: Path) -> None:
    rows = [
        (f"images/{i % 100:03d}/{i:08d}.jpg", ("train", "val", "test")[i % 3], f"label {i % 7}", f"attribute {i % 5}")
        for i in range(200_000)
    ]
    write_rows(tmp_path / "metadata.csv", HEADER, rows)
    n, seconds, peak = cost_of_loading(tmp_path)
    assert n == 200_000 and seconds < 20 and peak < 1000


def test_a_hundred_classes_are_looked_at_briefly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        put(tmp_path / f"class {number}" / "a.jpg", image(number))
    asked: list[str] = []
    names = Storage.names
    monkeypatch.setattr(Storage, "names", lambda self, folder="": asked.append(folder) or names(self, folder))  # type: ignore[func-returns-value]
    assert dataset.recognise(Storage(str(tmp_path))) == "classfolder"
    assert len(asked) < 60
