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
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.worlds.sources import Source
from benchmarks.worlds.worlds import Counts, World
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
    images = []
    for split, index, label, attribute, source in _plan(world, seed, size):
        rng = np.random.default_rng(seed_for(seed, world.name, split, index))
        picture = np.clip(world.draw(source, attribute, rng), 0, 1)
        images.append(WorldImage((picture * 255 + 0.5).astype(np.uint8), index, label, attribute, split, source))
    return images


def _plan(world: World, seed: int, size: float) -> Iterator[tuple[str, int, str, str, Source]]:
    """Split, index in it, label that is told, attribute and source of each image; a label's sources take turns."""
    counts = world.counts(size)
    sources = {label: _sources(world, label, seed, counts) for label in world.shows}
    for split, groups in counts.items():
        members = [group for group, n in groups.items() for _ in range(n)]
        told = _told([label for label, _ in members], world, seed, split)
        for index, (label, attribute) in enumerate(members):
            yield split, index, told[index], attribute, next(sources[label][split])


def _sources(world: World, label: str, seed: int, counts: Counts) -> dict[str, Iterator[Source]]:
    """The label's sources for each split, over and over."""
    needs = {split: sum(n for (y, _), n in groups.items() if y == label) for split, groups in counts.items()}
    pools = world.pools(world.shows[label], needs, np.random.default_rng(seed_for(seed, world.name, label)))
    return {split: cycle(pool) for split, pool in pools.items()}


def _told(labels: list[str], world: World, seed: int, split: str) -> list[str]:
    """The labels that the dataset tells: in training, a share of them is another one."""
    names, wrong = list(world.shows), round(world.flipped * len(labels)) if split == TRAIN else 0
    told, rng = list(labels), np.random.default_rng(seed_for(seed, world.name, "told"))
    for index in rng.permutation(len(labels))[:wrong]:
        told[index] = str(rng.choice([name for name in names if name != labels[index]]))
    return told


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
