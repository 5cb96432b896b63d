"""Datasets on disk in the exact layouts in which they are published, small or with full-size metadata."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.data.celeba import celeba
from tests.support.data.dataset_files import GROUPS, MEMBERS, SPLITS, Sizes, image, put, write_table, write_tar
from tests.support.datasets import tiny_waterbirds, write_rows

WATERBIRDS: Sizes = {"train": (3498, 184, 56, 1057), "val": (467, 466, 133, 133), "test": (2255, 2255, 642, 642)}


def folder(path: Path, suffix: str = "csv") -> Path:
    """A Hugging Face image folder with one table at the root."""
    rows = []
    for number, (split, label, attribute) in enumerate(MEMBERS):
        rows.append((f"images/{number:04d}.jpg", split, label, attribute))
        put(path / rows[-1][0], image(number))
    write_table(path / f"metadata.{suffix}", ("file_name", "split", "label", "attribute"), rows)
    return path


def folder_by_split(path: Path, suffix: str = "csv") -> Path:
    """A Hugging Face image folder with a table in each split's folder."""
    for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True):
        rows = []
        for number, (_, label, attribute) in enumerate(m for m in MEMBERS if m[0] == split):
            rows.append((f"{number:04d}.jpg", label, attribute))
            put(path / name / rows[-1][0], image(number))
        write_table(path / name / f"metadata.{suffix}", ("file_name", "label", "attribute"), rows)
    return path


def class_folders(path: Path, splits: bool = True, attributes: bool = True) -> Path:
    """[split/]label[/attribute]/file, as SpuCoImageFolder and torchvision's ImageFolder have it."""
    for number, (split, label, attribute) in enumerate(MEMBERS):
        parts = [*([split] if splits else []), label, *([attribute] if attributes else []), f"{number:04d}.png"]
        put(path.joinpath(*parts), image(number, "PNG"))
    return path


def waterbirds_table(path: Path, group_sizes: Sizes = WATERBIRDS) -> Path:
    """The metadata.csv of Waterbirds alone, in random order."""
    members = [
        (split, y, a)
        for split, counts in enumerate(group_sizes.values())
        for (y, a), n in zip(((0, 0), (0, 1), (1, 0), (1, 1)), counts, strict=True)
        for _ in range(n)
    ]
    random.Random(0).shuffle(members)
    rows = [
        (i, f"{i % 200:03d}.Some_bird/Some_Bird_{i:04d}_{i}.jpg", y, split, a, f"/f/forest/{i:08d}.jpg")
        for i, (split, y, a) in enumerate(members, start=1)
    ]
    write_rows(path / "metadata.csv", ("img_id", "img_filename", "y", "split", "place", "place_filename"), rows)
    return path


def utkface_names(n: int = 60, chip: bool = True) -> list[str]:
    """Names as in the published releases: ages 1 to 60, both genders, all races."""
    suffix = ".jpg.chip.jpg" if chip else ".jpg"
    return [f"{1 + i % 60}_{i // 2 % 2}_{i % 5}_20170116{i:09d}{suffix}" for i in range(n)]


def utkface(path: Path, folder: str = "UTKFace", names: Sequence[str] | None = None) -> Path:
    """UTKFace: files in one folder."""
    for number, name in enumerate(utkface_names() if names is None else names):
        put(path / folder / name, image(number))
    return path


def parquet_table(rows: Sequence[tuple[bytes | None, str, str, str]], as_struct: bool = True) -> pa.Table:
    """Rows (image, path, label, attribute) as Hugging Face's datasets library writes them."""
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if as_struct else pa.binary()
    cells = [{"bytes": content, "path": path} if as_struct else content for content, path, _, _ in rows]
    return pa.table(
        {
            "image": pa.array(cells, image_type),
            "label": pa.array([row[2] for row in rows], pa.string()),
            "attribute": pa.array([row[3] for row in rows], pa.string()),
        }
    )


def parquet(path: Path, folder: str = "data", as_struct: bool = True) -> Path:
    """Shards as on the Hugging Face Hub: data/train-00000-of-00002.parquet, ..., two row groups each."""
    (path / folder).mkdir(parents=True, exist_ok=True)
    for name in ("train", "validation", "test"):
        for shard in range(2):
            groups = enumerate(GROUPS)
            rows = [(image(4 * shard + i), f"{i}.jpg", label, attribute) for i, (label, attribute) in groups]
            table = parquet_table(rows, as_struct)
            pq.write_table(table, path / folder / f"{name}-{shard:05d}-of-00002.parquet", row_group_size=2)
    return path


def webdataset(path: Path) -> Path:
    """Shards train-0000.tar, ... with <key>.jpg and <key>.json, two per split."""
    for split in SPLITS:
        for shard in range(2):
            members = []
            for i, (label, attribute) in enumerate(GROUPS):
                fields = {"label": label, "attribute": attribute, "width": 16}
                members += [(f"{i:06d}.jpg", image(4 * shard + i)), (f"{i:06d}.json", json.dumps(fields).encode())]
            write_tar(path / f"{split}-{shard:04d}.tar", members)
    return path


def webdataset_by_folder(path: Path) -> Path:
    """Shards in split folders, the label in <key>.cls, as ImageNet shards have it."""
    for split in SPLITS:
        members = []
        for i in range(4):
            members += [(f"{split}/{i}.cls", str(i % 2).encode()), (f"{split}/{i}.png", image(i, "PNG"))]
        write_tar(path / split / "0000.tar", members)
    return path


# Every layout: its format, how it is written, and what else must be set to load it.
DISCOVER = {"attribute": "discover"}
FRACTIONS = {"split_fractions": (0.5, 0.25, 0.25)}
Layout = tuple[str, Callable[[Path], Path], dict[str, Any]]
LAYOUTS: Mapping[str, Layout] = {
    "waterbirds": ("waterbirds", tiny_waterbirds, {}),
    "folder, csv": ("folder", folder, {}),
    "folder, jsonl": ("folder", lambda path: folder(path, "jsonl"), {}),
    "folder, parquet": ("folder", lambda path: folder(path, "parquet"), {}),
    "folder by split, csv": ("folder", folder_by_split, {}),
    "folder by split, jsonl": ("folder", lambda path: folder_by_split(path, "jsonl"), {}),
    "folder by split, parquet": ("folder", lambda path: folder_by_split(path, "parquet"), {}),
    "classes": ("classfolder", lambda path: class_folders(path, False, False), DISCOVER | FRACTIONS),
    "classes and attributes": ("classfolder", lambda path: class_folders(path, False), FRACTIONS),
    "split and classes": ("classfolder", lambda path: class_folders(path, True, False), DISCOVER),
    "split, classes and attributes": ("classfolder", class_folders, {}),
    "celeba, txt": ("celeba", celeba, {}),
    "celeba, as published": (
        "celeba",
        lambda path: celeba(path, lists=("Anno", "Eval"), images="Img/img_align_celeba"),
        {},
    ),
    "celeba, as torchvision has it": (
        "celeba",
        lambda path: celeba(path, lists=("celeba", "celeba"), images="celeba/img_align_celeba"),
        {},
    ),
    "celeba, as Kaggle has it": (
        "celeba",
        lambda path: celeba(path, form="csv", images="img_align_celeba/img_align_celeba"),
        {},
    ),
    "celeba, as group_DRO has it": (
        "celeba",
        lambda path: celeba(path, form="csv", lists=("data", "data"), images="data/img_align_celeba"),
        {},
    ),
    "celeba, all in one folder": ("celeba", lambda path: celeba(path, images=""), {}),
    "utkface": ("utkface", utkface, {}),
    "utkface, in the wild": ("utkface", lambda path: utkface(path, "part1", utkface_names(chip=False)), {}),
    "utkface, at the root": ("utkface", lambda path: utkface(path, ""), {}),
    "parquet": ("parquet", parquet, {}),
    "parquet, at the root": ("parquet", lambda path: parquet(path, ""), {}),
    "parquet, binary": ("parquet", lambda path: parquet(path, as_struct=False), {}),
    "webdataset": ("webdataset", webdataset, {}),
    "webdataset by folder": ("webdataset", webdataset_by_folder, DISCOVER),
}
