"""The demo dataset: real handwritten digits on crops of two real photographs.

Label: digit 0-4 ``low``, 5-9 ``high``. Attribute: background ``building`` or ``flower``. In the
training split the background follows the label at the given severity; validation and test
show every digit on both backgrounds. No digit and no strip of a photograph is in two splits.
"""

from __future__ import annotations

import csv
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairsynth.manifest import TEST, TRAIN, VALIDATION

SIZE = 32
SPLIT_SIZES = {TRAIN: 600, VALIDATION: 297, TEST: 900}
ATTRIBUTES = ("building", "flower")
ALIGNED = {"low": "building", "high": "flower"}
_STRIPS, _CROP, _SIDE = 6, 96, 24
_TOP = {"building": 120, "flower": 0}  # above row 120 the first photograph is sky


@dataclass(frozen=True)
class DemoImage:
    """One image of the dataset: pixels uint8 (32, 32, 3) and what is on it."""

    pixels: NDArray[np.uint8]
    digit: int
    source: int
    split: str
    label: str
    attribute: str

    @property
    def file_name(self) -> str:
        """Path inside the dataset."""
        return f"{self.split}/{self.source:04d}-{self.label}-{self.attribute}.png"


def build(severity: float = 0.95, seed: int = 0) -> list[DemoImage]:
    """All images of the demo dataset; each depends on (seed, digit's number, attribute) alone.

    The conflicting images of a more severe set are a subset of those of a less severe one.
    """
    from sklearn.datasets import load_digits, load_sample_image

    digits = load_digits()
    photos = {"building": load_sample_image("china.jpg"), "flower": load_sample_image("flower.jpg")}
    order = np.random.default_rng((seed, 0)).permutation(len(digits.target))
    starts = np.cumsum([0, *SPLIT_SIZES.values()])
    images = []
    for split, start in zip(SPLIT_SIZES, starts, strict=False):
        sources = order[start : start + SPLIT_SIZES[split]]
        conflicting = _conflicting(digits.target[sources], severity) if split == TRAIN else np.zeros(len(sources), bool)
        for source, conflicts in zip(sources, conflicting, strict=True):
            digit = int(digits.target[source])
            label = "low" if digit < 5 else "high"
            if split == TRAIN:
                attributes = tuple(a for a in ATTRIBUTES if (a == ALIGNED[label]) != conflicts)
            else:
                attributes = ATTRIBUTES
            for attribute in attributes:
                rng = np.random.default_rng((seed, 1, int(source), ATTRIBUTES.index(attribute)))
                ground = _crop(photos[attribute], attribute, split == TRAIN, rng)
                images.append(
                    DemoImage(_compose(digits.images[source], ground, rng), digit, int(source), split, label, attribute)
                )
    return images


def _conflicting(digits_N: NDArray[np.int64], severity: float) -> NDArray[np.bool_]:
    """The first images of each label get the other background, as many as the severity leaves."""
    chosen = np.zeros(len(digits_N), bool)
    for members in (np.flatnonzero(digits_N < 5), np.flatnonzero(digits_N >= 5)):
        chosen[members[: max(1, round(len(members) * (1 - severity)))]] = True
    return chosen


def _crop(photo: NDArray[np.uint8], attribute: str, training: bool, rng: np.random.Generator) -> NDArray[np.float32]:
    """A darkened square from the photograph's strips: even strips for training, odd ones for the rest."""
    width = photo.shape[1] // _STRIPS
    strip = 2 * int(rng.integers(_STRIPS // 2)) + (not training)
    x = strip * width + int(rng.integers(width - _CROP + 1))
    y = int(rng.integers(_TOP[attribute], photo.shape[0] - _CROP + 1))
    square = Image.fromarray(photo[y : y + _CROP, x : x + _CROP]).resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(square, np.float32) * 0.7


def _compose(
    digit_8x8: NDArray[np.float64], ground: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The digit's ink in white over the background, at a slightly random place."""
    ink = Image.fromarray((digit_8x8 * 255 / 16).astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    mask = np.zeros((SIZE, SIZE), np.float32)
    y, x = (SIZE - _SIDE) // 2 + rng.integers(-2, 3, 2)
    mask[y : y + _SIDE, x : x + _SIDE] = np.asarray(ink, np.float32) / 255
    return (mask[..., None] * 250 + (1 - mask[..., None]) * ground + 0.5).astype(np.uint8)


def write(folder: Path, severity: float = 0.95, seed: int = 0, written_at: float | None = None) -> Path:
    """Write the dataset as an image folder with metadata.csv; does nothing if the folder exists.

    The folder appears in one rename, so a killed writer leaves no half dataset. ``written_at``: the time of all its files,
    seconds since 1970, so that machines which each write it have the same, times included.
    """
    if folder.exists():
        return folder
    private = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        images = build(severity, seed)
        for image in images:
            path = private / image.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.pixels).save(path)
        with open(private / "metadata.csv", "w", encoding="utf-8", newline="") as handle:
            table = csv.writer(handle)
            table.writerow(["file_name", "label", "attribute", "split", "digit"])
            table.writerows([i.file_name, i.label, i.attribute, i.split, i.digit] for i in images)
        if written_at is not None:
            for path in private.rglob("*"):
                os.utime(path, (written_at, written_at))
        os.rename(private, folder)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return folder
