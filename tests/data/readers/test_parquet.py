"""Parquet files with the images inside: which rows become which images, without reading the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.data.location import ImageReader
from fairsynth.data.metadata import BadImage, SetAside
from fairsynth.data.storage import Storage
from fairsynth.errors import DataError
from tests.support.data.dataset_files import GROUPS, image, load, put
from tests.support.data.layouts import parquet, parquet_table
from tests.support.data.metadata import ODD

ROWS = [(image(i), f"{i}.jpg", *GROUPS[i % 4]) for i in range(7)]


def write(path: Path, table: pa.Table, name: str = "train-00000-of-00001.parquet", **options: Any) -> Path:
    """One file, and one for each other split."""
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path / name, **options)
    for split in ("validation", "test"):
        pq.write_table(parquet_table(ROWS), path / f"{split}-00000-of-00001.parquet")
    return path


def refusal(path: Path, **options: Any) -> str:
    """The message with which the dataset is refused."""
    with pytest.raises(DataError) as caught:
        load(path, format="parquet", **options)
    return str(caught.value)


@pytest.mark.parametrize("as_struct", [True, False])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_every_row_gives_its_own_image_and_values(tmp_path: Path, as_struct: bool, size: int) -> None:
    write(tmp_path, parquet_table(ROWS, as_struct), row_group_size=size)
    found = [entry for entry in load(tmp_path).entries if entry.split == "train"]
    assert [entry.path for entry in found] == [f"train-00000-of-00001.parquet/{i:08d}" for i in range(7)]
    reader = ImageReader(Storage(str(tmp_path)))
    for entry, (content, _, label, attribute) in zip(found, ROWS, strict=True):
        assert (entry.label, entry.attribute) == (label, attribute)
        assert reader.read(entry.path, entry.location).content == content


@pytest.mark.parametrize("statistics", [True, False])
def test_rows_without_an_image_and_rows_with_a_path(tmp_path: Path, statistics: bool) -> None:
    table = parquet_table(ROWS)
    cells = table["image"].to_pylist()
    cells[1] = None
    cells[2] = {"bytes": None, "path": None}
    cells[3] = {"bytes": None, "path": "pictures/3.jpg"}
    cells[4] = {"bytes": b"", "path": None}
    table = table.set_column(0, "image", pa.array(cells, table.schema.field("image").type))
    write(tmp_path, table, row_group_size=5, write_statistics=statistics)
    put(tmp_path / "pictures" / "3.jpg", image(99))
    metadata = load(tmp_path)
    shard = "train-00000-of-00001.parquet"
    assert metadata.quarantined == [SetAside(f"{shard}/0000000{i}", "empty", "no image in the row") for i in (1, 2)]
    found = [entry for entry in metadata.entries if entry.split == "train"]
    assert [entry.path for entry in found] == [
        f"{shard}/00000000", "pictures/3.jpg", f"{shard}/00000004", f"{shard}/00000005", f"{shard}/00000006"
    ]  # fmt: skip
    assert found[1].location == "" and (found[1].label, found[1].attribute) == GROUPS[3]
    reader = ImageReader(Storage(str(tmp_path)))
    assert reader.read(*found[1][::4]).content == image(99)
    assert reader.read(found[4].path, found[4].location).content == ROWS[6][0]
    with pytest.raises(BadImage, match="empty"):
        reader.read(found[2].path, found[2].location)


def test_nulls_of_a_binary_column_are_set_aside(tmp_path: Path) -> None:
    rows = [(None if i in (0, 5) else row[0], *row[1:]) for i, row in enumerate(ROWS)]
    write(tmp_path, parquet_table(rows, as_struct=False), row_group_size=4)
    assert [image.path[-1] for image in load(tmp_path).quarantined] == ["0", "5"]


def test_a_path_out_of_the_dataset_is_refused(tmp_path: Path) -> None:
    table = parquet_table([(None, "../secret.jpg", "x", "p")])
    assert "'../secret.jpg' must be a relative path" in refusal(write(tmp_path, table))


def test_the_images_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, parquet_table(ROWS), row_group_size=3) / "train-00000-of-00001.parquet"
    before = load(tmp_path)
    meta, content = pq.ParquetFile(path).metadata, bytearray(path.read_bytes())
    for group in range(meta.num_row_groups):
        chunk = meta.row_group(group).column(0)
        assert chunk.path_in_schema == "image.bytes"
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(content)
    assert load(tmp_path) == before
    entry = next(entry for entry in before.entries if entry.split == "train")
    with pytest.raises(BadImage, match="unreadable"):
        ImageReader(Storage(str(tmp_path))).read(entry.path, entry.location)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00001.parquet", "train"),
        ("Validation.parquet", "val"),
        ("test_3.parquet", "test"),
        ("data/val-0.parquet", "val"),
        ("default/test/0000.parquet", "test"),
        ("test/train-00.parquet", "train"),
        ("trainset.parquet", "train"),
        ("0000.parquet", ""),
    ],
)
def test_the_split_comes_from_the_name_or_the_folder(tmp_path: Path, name: str, split: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(parquet_table(ROWS), tmp_path / name)
    if split:
        assert {entry.split for entry in load(tmp_path, format="parquet").entries} == {split}
    else:
        assert "the dataset has no split" in refusal(tmp_path)


def test_a_split_column_goes_before_the_name(tmp_path: Path) -> None:
    table = parquet_table(ROWS[:3])
    words = table.append_column("split", pa.array(["test", "dev", "train"]))
    pq.write_table(words, tmp_path / "train.parquet")
    assert [entry.split for entry in load(tmp_path).entries] == ["test", "val", "train"]
    assert "no column 'part'" in refusal(tmp_path, split_column="part")
    pq.write_table(table.append_column("split", pa.array(["test", None, "train"])), tmp_path / "train.parquet")
    assert "1 images have no split, the others have one; first: 'train.parquet/00000001'" in refusal(tmp_path)


def test_the_image_column_may_have_another_name(tmp_path: Path) -> None:
    table = parquet_table(ROWS)
    write(tmp_path, table)
    for path in tmp_path.glob("*.parquet"):
        pq.write_table(pq.read_table(path).rename_columns(["img", "label", "attribute"]), path)
    with pytest.raises(
        DataError,
        match=r"no column 'image' \(did you mean 'img'\?\); set --data\.options '\{image_column: img\}'; it has: img, label",
    ):
        load(tmp_path)
    found = load(tmp_path, options={"image_column": "img"}).entries
    assert ImageReader(Storage(str(tmp_path))).read(found[-1].path, found[-1].location).content == ROWS[6][0]


def test_odd_columns_and_values(tmp_path: Path) -> None:
    rows = [(image(i), "x.jpg", value, value) for i, value in enumerate(ODD)]
    table = parquet_table(rows).rename_columns(["image", "a label: 'x'/y", "attribute"])
    extra = pa.array([[1.0, 2.0]] * len(rows))
    for split in ("train", "val", "test"):
        pq.write_table(table.append_column("embedding", extra), tmp_path / f"{split}.parquet")
    found = load(tmp_path, label_column="a label: 'x'/y").entries
    assert [(e.label, e.attribute) for e in found if e.split == "val"] == [(value, value) for value in ODD]
    numbers = parquet_table(ROWS).set_column(1, "label", pa.array([0, 1, 0, 1, 0, 1, 0], pa.int8()))
    codes = numbers.set_column(2, "attribute", pa.array([True, False] * 3 + [True]))
    (tmp_path / "codes").mkdir()
    pq.write_table(codes, tmp_path / "codes" / "train.parquet")
    assert {(e.label, e.attribute) for e in load(tmp_path / "codes").entries} == {("0", "true"), ("1", "false")}


def test_files_that_are_no_good_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path)
    good = (tmp_path / "data" / "train-00000-of-00002.parquet").read_bytes()
    path = tmp_path / "data" / "train-00001-of-00002.parquet"
    for content in (b"", b"PAR1", good[:-10], good[:-200] + bytes(190) + good[-10:], b"x" * 1000):
        path.write_bytes(content)
        assert f"{path} is not a readable Parquet file" in refusal(tmp_path)
    pq.write_table(pa.table({"image": ["a.jpg"], "label": ["x"], "attribute": ["p"]}), path)
    assert "column 'image' is string; it must be struct<bytes, path> or binary" in refusal(tmp_path)
    pq.write_table(parquet_table(ROWS).rename_columns(["image", "labels", "attribute"]), path)
    assert "no column 'label' (did you mean 'labels'?)" in refusal(tmp_path)
    assert f"{tmp_path / 'none'} holds no .parquet file" in refusal(put(tmp_path / "none" / "x.txt", "x").parent)
