"""The synthetic set in other programs: the same rows, labels and files in each; memory for a batch; hostile text as text."""

from __future__ import annotations

import csv
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import webdataset
from PIL import Image

from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import session_of
from fairsynth.exports.formats import MARKS, image_folder, write_folder, write_parquet, write_webdataset
from fairsynth.groups import Group
from tests.support.datasets import encoded, picture

GROUPS = [
    Group("low", "flower"), Group("=1+1", "a,b\n\"c\""), Group("../../x", "<b>"), Group("low/..", "日本 🙂"),
]  # fmt: skip
COLUMNS = ["image_id", "label", "attribute", "adapter", "seed", "score", "flipped"]
Write = Callable[..., int]
WRITERS: list[Write] = [lambda target, images: write_folder(target, images, ".png"), write_parquet, write_webdataset]


def row(i: int, **changed: Any) -> dict[str, Any]:
    group = GROUPS[i % 4]
    plain = {"image_id": f"{i:016x}", "label": group.label, "attribute": group.attribute, "adapter": f"a--{i % 3}"}
    return plain | {"seed": 2**62 + i, "score": i + 0.125, "flipped": i % 2 == 0} | changed


def images(n: int = 23, format: str = "PNG") -> list[tuple[dict[str, Any], bytes]]:
    return [(row(i), encoded(picture(i % 2, i % 3 % 2, i), format)) for i in range(n)]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    """datasets.load_dataset without network, progress bars or traces of it."""
    datasets.disable_progress_bars()
    return lambda builder, **options: datasets.load_dataset(builder, cache_dir=str(tmp_path / "cache"), **options)[
        "train"
    ]


@pytest.fixture(scope="module")
def on_ray() -> Iterator[None]:
    with session_of(ResourcesConfig()) as session:
        session.connect()
        yield


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare rows in any order."""
    by_id = sorted(found, key=lambda r: r["image_id"])
    assert [{name: r[name] for name in (*MARKS, *COLUMNS)} for r in by_id] == expected


def rows_of(made: list[tuple[dict[str, Any], bytes]]) -> list[dict[str, Any]]:
    return [{**MARKS, **r} for r, _ in made]


def pixels(made: list[tuple[dict[str, Any], bytes]]) -> list[Any]:
    return [np.asarray(picture(i % 2, i % 3 % 2, i)) for i in range(len(made))]


def test_a_folder_is_read_by_all(tmp_path: Path, load: Callable[..., Any], on_ray: None) -> None:
    made, target = images(), tmp_path / "out"
    target.mkdir()
    assert write_folder(target, iter(made), ".png") == 23
    # In a spreadsheet a formula would run; the text itself is in Parquet and JSON.
    expected = [r | {"label": "'=1+1" if r["label"] == "=1+1" else r["label"]} for r in rows_of(made)]
    found = load("imagefolder", data_dir=str(target))
    same(found.remove_columns("image").to_list(), expected)
    assert all((np.asarray(a) == b).all() for a, b in zip(found["image"], pixels(made), strict=True))
    frame = pd.read_csv(target / "metadata.csv", keep_default_na=False)
    same(frame.to_dict("records"), expected)
    for name, (r, content) in zip(frame["file_name"], made, strict=True):
        assert (target / name).read_bytes() == content
        assert name == f"images/{Group(r['label'], r['attribute']).slug}/{r['image_id']}.png"
    assert Counter(r["label"] for r in ray.data.read_csv(str(target / "metadata.csv")).take_all()) == Counter(
        r["label"] for r in expected
    )
    seen = ray.data.read_images(str(target / "images"), include_paths=True).take_all()
    assert {Path(r["path"]).relative_to(target).as_posix() for r in seen} == set(frame["file_name"])


def test_folders_of_many_files_are_parted(tmp_path: Path, load: Callable[..., Any]) -> None:
    made, target, whole = images(23), tmp_path / "out", tmp_path / "whole"
    for folder, most in ((target, 2), (whole, 6)):
        folder.mkdir()
        write_folder(folder, iter(made), ".png", most)
    numbers = Counter[Group]()
    for r, content in made:
        group, name = Group(r["label"], r["attribute"]), f"{r['image_id']}.png"
        part = numbers[group] // 2
        assert (target / "images" / (f"{group.slug}.{part:05d}" if part else group.slug) / name).read_bytes() == content
        assert (whole / "images" / group.slug / name).read_bytes() == content, "up to the limit nothing is parted"
        numbers[group] += 1
    assert sorted(len([*folder.iterdir()]) for folder in (target / "images").iterdir()) == [1] + [2] * 11
    found = load("imagefolder", data_dir=str(target))
    assert sorted(found["image_id"]) == [r["image_id"] for r, _ in made]
    by_id = dict(zip(found["image_id"], found["image"], strict=True))
    expected = {r["image_id"]: picture for (r, _), picture in zip(made, pixels(made), strict=True)}
    assert all((np.asarray(by_id[i]) == expected[i]).all() for i in expected)


def test_a_part_of_a_folder_has_the_name_of_no_group() -> None:
    assert [image_folder(Group("low", "red"), n) for n in (0, 9_999, 10_000, 20_000)] == [
        "images/low--red", "images/low--red", "images/low--red.00001", "images/low--red.00002",
    ]  # fmt: skip
    assert Group("low", "red.00001").slug != "low--red.00001"


@pytest.mark.parametrize(("per_file", "sizes"), [(10, [10, 10, 3]), (23, [23]), (100, [23])])
def test_parquet_is_read_by_all(
    per_file: int, sizes: list[int], tmp_path: Path, load: Callable[..., Any], on_ray: None
) -> None:
    made, target = images(), tmp_path / "out"
    target.mkdir()
    assert write_parquet(target, iter(made), per_file) == 23
    files = sorted((target / "data").iterdir())
    assert [file.name for file in files] == [f"train-{i:05d}-of-{len(sizes):05d}.parquet" for i in range(len(sizes))]
    assert [pq.read_metadata(file).num_rows for file in files] == sizes
    found = load("parquet", data_dir=str(target))
    assert isinstance(found.features["image"], datasets.Image)
    same(found.remove_columns("image").to_list(), rows_of(made))
    assert all((np.asarray(a) == b).all() for a, b in zip(found["image"], pixels(made), strict=True))
    frame = pd.read_parquet(target / "data")
    same(frame.drop(columns="image").to_dict("records"), rows_of(made))
    assert [image["bytes"] for image in frame["image"]] == [content for _, content in made]
    assert [image["path"] for image in frame["image"]] == [f"{r['image_id']}.png" for r, _ in made]
    same(ray.data.read_parquet(str(target / "data")).drop_columns(["image"]).take_all(), rows_of(made))


@pytest.mark.parametrize(("format", "ending"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_webdataset_is_read_by_all(
    format: str, ending: str, tmp_path: Path, load: Callable[..., Any], on_ray: None
) -> None:
    made, target = images(format=format), tmp_path / "out"
    target.mkdir()
    assert write_webdataset(target, iter(made), 10) == 23
    shards = [str(target / f"{i:06d}.tar") for i in range(3)]
    assert sorted(str(path) for path in target.iterdir()) == shards
    found = load("webdataset", data_files=shards)
    assert isinstance(found.features[ending], datasets.Image)
    same([r["json"] for r in found.select_columns("json").to_list()], rows_of(made))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [s["__key__"] for s in samples] == [r["image_id"] for r, _ in made]
    assert [s[ending] for s in samples] == [content for _, content in made]
    same([json.loads(s["json"]) for s in samples], rows_of(made))
    decoded = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert all(isinstance(s[ending], Image.Image) and s[ending].size == (16, 16) for s in decoded)
    read = ray.data.read_webdataset(shards).take_all()
    same([r["json"] for r in read], rows_of(made))
    assert all(ending in r for r in read)


def test_tar_shards_of_the_same_rows_have_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in "ab":
        (tmp_path / name).mkdir()
        write_webdataset(tmp_path / name, iter(images()))
        contents.append((tmp_path / name / "000000.tar").read_bytes())
    assert contents[0] == contents[1]
    with tarfile.open(tmp_path / "a" / "000000.tar") as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert [m.name for m in members] == [f"{i:016x}.{ending}" for i in range(23) for ending in ("json", "png")]


@pytest.mark.parametrize("write", WRITERS, ids=["folder", "parquet", "webdataset"])
def test_no_more_than_a_batch_is_held(write: Write, tmp_path: Path) -> None:
    alive, most = 0, 0

    class Content(bytes):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def many() -> Iterator[tuple[dict[str, Any], bytes]]:
        nonlocal alive, most
        for i in range(1000):
            alive += 1
            most = max(most, alive)
            yield row(i), Content(b"\x89PNG" + bytes(100))

    assert write(tmp_path, many()) == 1000
    assert most <= 301, "at most the first batch, one that is read and one that is written"


@pytest.mark.parametrize("write", WRITERS, ids=["folder", "parquet", "webdataset"])
@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ([row(0, image_id="../x")], "to be a file's name"),
        ([row(0, image_id="a.b")], "to be a file's name"),
        ([row(0, image_id="")], "to be a file's name"),
        ([row(0, image_id=3)], "to be a file's name"),
        ([row(0, source="x")], "reserved: \\['source'\\]"),
        ([row(0, file_name="x", image=1)], "reserved: \\['file_name', 'image'\\]"),
        ([{"image_id": "a", "label": "b"}], "missing: \\['attribute'\\]"),
        ([row(0), row(1, more=1)], "the first one has"),
    ],
)
def test_a_row_that_breaks_the_rules_is_refused(
    wrong: list[dict[str, Any]], expected: str, write: Write, tmp_path: Path
) -> None:
    out = tmp_path / "a" / "b"
    out.mkdir(parents=True)
    with pytest.raises(ValueError, match=expected):
        write(out, iter([(r, b"\x89PNG") for r in wrong]))
    assert [path.name for path in tmp_path.iterdir()] == ["a"], "a file beside the folder"


def test_two_images_of_one_id_are_refused(tmp_path: Path) -> None:
    twice = [(row(0), b"\x89PNG"), (row(1), b"\x89PNG"), (row(0), b"\x89PNG")]
    with pytest.raises(ValueError, match="two images have the image_id '0000"):
        write_webdataset(tmp_path, iter(twice))
    with pytest.raises(FileExistsError):
        write_folder(tmp_path, iter(twice), ".png")


def test_a_column_may_begin_empty(tmp_path: Path) -> None:
    rows = [row(i, adapter=None if i < 150 else "a", score=None if i < 150 else 0.5) for i in range(200)]
    types = pa.schema([("adapter", pa.null()), ("score", pa.float64()), ("unknown", pa.int8())])
    write_parquet(tmp_path, ((r, b"\x89PNG") for r in rows), types=types)
    assert pq.read_table(tmp_path / "data").select(COLUMNS).to_pylist() == rows
    write_webdataset(tmp_path, ((r | {"score": float("nan")}, b"\x89PNG") for r in rows))
    first = next(iter(webdataset.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False)))
    assert json.loads(first["json"]) == {**MARKS, **rows[0], "score": None}


def test_nothing_is_written_as_nothing(tmp_path: Path) -> None:
    assert [write(tmp_path, iter([])) for write in WRITERS] == [0, 0, 0]
    with open(tmp_path / "metadata.csv", encoding="utf-8", newline="") as handle:
        assert list(csv.reader(handle)) == [["file_name", *MARKS, "image_id", "label", "attribute"]]
    assert not list(tmp_path.rglob("*.tar")) and not list(tmp_path.rglob("*.parquet"))
