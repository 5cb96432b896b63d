"""Draw a world's images and write them as an image folder, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.worlds.sources import Pools, Source
from benchmarks.worlds.worlds import World
from fairsynth.manifest import TRAIN, seed_for

COLUMNS = ("file_name", "label", "attribute", "split", "shows", "source")


@dataclass(frozen=True)
class WorldImage:
    """One image: pixels uint8 (32, 32, 3), its group and split, and what it was made from."""

    pixels: NDArray[np.uint8]
    index: int
    label: str
    attribute: str
    split: str
    source: Source

    @property
    def row(self) -> tuple[str, ...]:
        """Its row of metadata.csv."""
        return (self.file_name, self.label, self.attribute, self.split, self.source.shows, str(self.source))

    @property
    def file_name(self) -> str:
        """Path inside the dataset."""
        return f"{self.split}/{self.index:04d}.png"


def build(world: World, seed: int = 0, size: float = 1.0) -> list[WorldImage]:
    """All images of a world; each depends on (seed, world, split, index) alone, given the size."""
    counts = world.counts(size)
    pools = {label: _pools(world, label, seed, size) for label in world.shows}
    images = []
    for split, groups in counts.items():
        labels = _labels([label for (label, _), n in groups.items() for _ in range(n)], world, seed, split)
        for index, ((label, attribute), source) in enumerate(_sources(groups, pools, split)):
            rng = np.random.default_rng(seed_for(seed, world.name, split, index))
            picture = np.clip(world.draw(source, attribute, rng), 0, 1)
            pixels = (picture * 255 + 0.5).astype(np.uint8)
            images.append(WorldImage(pixels, index, labels[index], attribute, split, source))
    return images


def _pools(world: World, label: str, seed: int, size: float) -> Pools:
    """The label's sources for each split."""
    needs = {s: sum(n for (y, _), n in groups.items() if y == label) for s, groups in world.counts(size).items()}
    return world.pools(world.shows[label], needs, np.random.default_rng(seed_for(seed, world.name, label)))


def _sources(
    groups: dict[tuple[str, str], int], pools: dict[str, Pools], split: str
) -> Iterator[tuple[tuple[str, str], Source]]:
    """Group and source of each image of a split; a label's sources take turns."""
    used = Counter[str]()
    for (label, attribute), n in groups.items():
        for _ in range(n):
            pool = pools[label][split]
            yield (label, attribute), pool[used[label] % len(pool)]
            used[label] += 1


def _labels(labels: list[str], world: World, seed: int, split: str) -> list[str]:
    """The labels that are told: in training, a share of them is another one."""
    if split != TRAIN:
        return labels
    names = list(world.shows)
    order = np.random.default_rng(seed_for(seed, world.name, "flipped")).permutation(len(labels))
    for index in order[: round(world.flipped * len(labels))]:
        labels[index] = names[(names.index(labels[index]) + 1) % len(names)]
    return labels


def record(world: World, images: list[WorldImage], seed: int, size: float) -> dict[str, Any]:
    """What world.json tells."""
    counts = Counter((i.split, i.label, i.attribute) for i in images)
    return {
        "name": world.name,
        "role": world.role,
        "about": world.about,
        "seed": seed,
        "size": size,
        "aligned": dict(world.aligned),
        "absent": sorted(world.absent),
        "flipped": world.flipped,
        "arguments": world.arguments,
        "counts": [{"split": s, "label": y, "attribute": a, "n": n} for (s, y, a), n in counts.items()],
    }


def write(folder: Path, world: World, seed: int = 0, size: float = 1.0) -> Path:
    """Write images, metadata.csv and world.json; does nothing if the folder holds that world already.

    The folder appears in one rename, so a killed writer leaves no half world.
    Raises FileExistsError: the folder holds something else.
    """
    images = build(world, seed, size)
    told = json.dumps(record(world, images, seed, size), indent=1) + "\n"
    if folder.exists():
        if (folder / "world.json").is_file() and (folder / "world.json").read_text("utf-8") == told:
            return folder
        raise FileExistsError(
            f"{folder} holds something else than {world.name} of seed {seed}; remove it or name another"
        )
    private = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        for image in images:
            path = private / image.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.pixels).save(path)
        with open(private / "metadata.csv", "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([COLUMNS, *(image.row for image in images)])
        (private / "world.json").write_text(told, "utf-8")
        os.rename(private, folder)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return folder
