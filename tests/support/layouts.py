"""Datasets on disk in the exact layouts in which they are published, small or with full-size metadata."""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.config import DataConfig
from fairsynth.data import dataset
from fairsynth.data.reading import Reading
from fairsynth.data.storage import Storage
from tests.support.datasets import encoded, picture, tiny_waterbirds, write_rows

SPLITS = ("train", "val", "test")
GROUPS = (("cat", "indoor"), ("cat", "outdoor"), ("dog", "indoor"), ("dog", "outdoor"))
# (split, label, attribute) of the images of a small dataset.
MEMBERS = [(split, *group) for split in SPLITS for group in GROUPS]
Sizes = Mapping[str, Sequence[int]]
WATERBIRDS: Sizes = {"train": (3498, 184, 56, 1057), "val": (467, 466, 133, 133), "test": (2255, 2255, 642, 642)}
CELEBA: Sizes = {
    "train": (71629, 66874, 22880, 1387),
    "val": (8535, 8276, 2874, 182),
    "test": (9767, 7535, 2480, 180),
}
# In the order of the published list.
CELEBA_ATTRIBUTES = [
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
]


def load(root: Path | str, **options: Any) -> Reading:
    """The dataset's checked metadata, as the pipeline reads it."""
    config = DataConfig(root=str(root), **options)
    return dataset.load(config, Storage(config.root))


def sizes(reading: Reading, groups: Iterable[tuple[str, str]]) -> Sizes:
    """Images per group of each split."""
    counts = Counter((entry.split, entry.label, entry.attribute) for entry in reading.entries)
    found = {split: tuple(counts[split, y, a] for y, a in groups) for split in SPLITS}
    assert sum(map(sum, found.values())) == len(reading.entries)
    return found


def image(number: int, kind: str = "JPEG") -> bytes:
    """An image file, another for each number."""
    return encoded(picture(number % 2, number // 2 % 2, number), kind)


def put(path: Path, content: bytes | str) -> Path:
    """Write a file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a .csv, .jsonl or .parquet table of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        write_rows(path, header, rows)
    elif path.suffix == ".jsonl":
        lines = (json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False) for row in rows)
        put(path, "".join(f"{line}\n" for line in lines))
    else:
        columns = {name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(header)}
        pq.write_table(pa.table(columns), path)


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


def celeba_rows(group_sizes: Sizes, seed: int = 0) -> list[tuple[str, int, int, int]]:
    """(name, partition, Blond_Hair, Male) of images in these groups, in random order."""
    members = [
        (SPLITS.index(split), y, a)
        for split, counts in group_sizes.items()
        for (y, a), n in zip(((-1, -1), (-1, 1), (1, -1), (1, 1)), counts, strict=True)
        for _ in range(n)
    ]
    random.Random(seed).shuffle(members)
    return [(f"{number:06d}.jpg", *member) for number, member in enumerate(members, start=1)]


def _attribute_values(blond: int, male: int) -> list[str]:
    values = ["-1"] * len(CELEBA_ATTRIBUTES)
    values[9], values[20], values[39] = str(blond), str(male), str(-male)
    return values


def celeba(
    path: Path,
    rows: Sequence[tuple[str, int, int, int]] | None = None,
    form: str = "txt",
    lists: tuple[str, str] = ("", ""),
    images: str = "img_align_celeba",
) -> Path:
    """CelebA with its original .txt or with .csv lists in these folders; the partition list has another order."""
    rows = celeba_rows({split: (2, 2, 1, 1) for split in SPLITS}) if rows is None else rows
    shuffled = random.Random(1).sample(rows, len(rows))
    if form == "txt":
        # The published list separates by one or two spaces, so that columns line up, and ends lines with a space.
        body = "".join(f"{name} {' '.join(f'{v:>2}' for v in _attribute_values(y, a))}\n" for name, _, y, a in rows)
        put(path / lists[0] / "list_attr_celeba.txt", f"{len(rows)}\n{' '.join(CELEBA_ATTRIBUTES)} \n{body}")
        put(path / lists[1] / "list_eval_partition.txt", "".join(f"{name} {s}\n" for name, s, _, _ in shuffled))
    else:
        attributes = [(name, *_attribute_values(y, a)) for name, _, y, a in rows]
        write_rows(path / lists[0] / "list_attr_celeba.csv", ("image_id", *CELEBA_ATTRIBUTES), attributes)
        partition = [(name, s) for name, s, _, _ in shuffled]
        write_rows(path / lists[1] / "list_eval_partition.csv", ("image_id", "partition"), partition)
    for number, (name, *_) in enumerate(rows[:24]):
        put(path / images / name, image(number))
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
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if as_struct else pa.binary()
    cells = [{"bytes": content, "path": path} if as_struct else content for content, path, _, _ in rows]
    return pa.table(
        {
            "image": pa.array(cells, kind),
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


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], **options: Any) -> Path:
    """A tar of regular files, as the webdataset library writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.uname = len(content), 0o444, "bigdata"
            tar.addfile(header, io.BytesIO(content))
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


def csv_bytes(rows: Sequence[Sequence[str]], end: str = "\n") -> bytes:
    """Rows as CSV with these line ends."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end).writerows(rows)
    return text.getvalue().encode()
