"""Small datasets on disk, in the layouts that the readers read."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

LABELS, ATTRIBUTES = ("cat", "dog"), ("indoor", "outdoor")
# Images per group of each split, in the order (label, attribute).
COUNTS: Mapping[str, Sequence[int]] = {"train": (6, 2, 2, 6), "val": (2, 2, 2, 2), "test": (2, 2, 2, 2)}


def picture(label: int, attribute: int, seed: int, side: int = 16) -> Image.Image:
    """Left half dark or bright by label, right half red or blue by attribute, under noise from the seed."""
    rng = np.random.default_rng((seed, label, attribute))
    pixels = np.zeros((side, side, 3))
    pixels[:, : side // 2] = 60 + 120 * label
    pixels[:, side // 2 :, 2 * attribute] = 200
    return Image.fromarray((pixels + rng.integers(0, 40, pixels.shape)).astype(np.uint8))


@cache
def crops() -> tuple[Image.Image, ...]:
    """329 different textured squares of two photographs, 96 x 96."""
    from sklearn.datasets import load_sample_image

    side, step, found = 96, 32, []
    for name in ("china.jpg", "flower.jpg"):
        photo = load_sample_image(name)
        corners = [(y, x) for y in range(0, 427 - side, step) for x in range(0, 641 - side, step)]
        found += [photo[y : y + side, x : x + side] for y, x in corners]
    return tuple(Image.fromarray(square) for square in found if square.std((0, 1)).mean() > 10)


def tree(folder: Path) -> dict[bytes, tuple[int, str]]:
    """Time and content of every file, folder and link below a folder, names as bytes."""
    found = {}
    for top, folders, files in os.walk(os.fsencode(folder)):
        for path in (top, *(os.path.join(top, name) for name in (*folders, *files))):
            if os.path.islink(path):
                content = b"link to " + os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as handle:
                    content = handle.read()
            else:
                content = b"folder"
            found[path] = (os.lstat(path).st_mtime_ns, hashlib.sha256(content).hexdigest())
    return found


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Whatever happens inside: names, bytes and times of the dataset are the same before and after."""
    before = tree(folder)
    try:
        yield
    finally:
        assert tree(folder) == before, "the dataset was changed"


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a metadata.csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


def _members(counts: Mapping[str, Sequence[int]], n_labels: int, n_attributes: int) -> list[tuple[str, int, int, int]]:
    """(split, label, attribute, running number) of every image."""
    groups = [(y, a) for y in range(n_labels) for a in range(n_attributes)]
    found = [
        (s, y, a) for s, sizes in counts.items() for (y, a), n in zip(groups, sizes, strict=True) for _ in range(n)
    ]
    return [(*member, number) for number, member in enumerate(found)]


def tiny_folder_dataset(
    path: Path,
    counts: Mapping[str, Sequence[int]] = COUNTS,
    labels: Sequence[str] = LABELS,
    attributes: Sequence[str] = ATTRIBUTES,
    side: int = 16,
    changed: Mapping[int, bytes] | None = None,
    photos: bool = False,
) -> Path:
    """Write the folder layout (PNG); ``changed`` replaces the content of files by their running number.

    With ``photos`` the images are textured crops instead of drawn ones: no two of them look alike.
    """
    rows = []
    for split, y, a, number in _members(counts, len(labels), len(attributes)):
        name = f"{split}/{number:04d}.png"
        image = crops()[number] if photos else picture(y, a, number, side)
        (path / split).mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes((changed or {}).get(number, encoded(image)))
        rows.append((name, split, labels[y], attributes[a]))
    write_rows(path / "metadata.csv", ("file_name", "split", "label", "attribute"), rows)
    return path


def tiny_waterbirds(path: Path, counts: Mapping[str, Sequence[int]] = COUNTS, side: int = 16) -> Path:
    """Write the Waterbirds layout (JPEG): splits 0, 1, 2 are train, validation, test."""
    rows, codes = [], {"train": 0, "val": 1, "test": 2}
    for split, y, a, number in _members(counts, 2, 2):
        name = f"{number % 3 + 1:03d}.Some_bird/Some_Bird_{number:04d}.jpg"
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(encoded(picture(y, a, number, side), "JPEG", quality=95))
        rows.append((number + 1, name, y, codes[split], a, f"/f/forest/{number:08d}.jpg"))
    write_rows(path / "metadata.csv", ("img_id", "img_filename", "y", "split", "place", "place_filename"), rows)
    return path
