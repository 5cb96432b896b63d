"""The classifier's images as arrays on disk: decoded once, mapped into every trial's memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairsynth.artifacts import Units
from fairsynth.classify.images import Data, Images, taken
from fairsynth.classify.methods import SYNTHETIC
from fairsynth.config import ImageRules
from fairsynth.data.decode import decode
from fairsynth.data.location import ImageReader, same_content
from fairsynth.groups import group_index
from fairsynth.manifest import TRAIN, VALIDATION


def pack_name(part: str, method: str = "") -> str:
    """Name of the unit with a split's images, or with the ``synthetic`` ones that a method learns from."""
    return f"pack-{part}-{method}" if method else f"pack-{part}"


@dataclass(frozen=True)
class Packer:
    """Packs images into units; labels and attributes are numbered by place in ``label_names``, ``attribute_names``."""

    units: Units
    label_names: Sequence[str]
    attribute_names: Sequence[str]
    size: int
    """Side in pixels."""

    def real(self, split: str, rows: Sequence[Mapping[str, Any]], images: ImageReader, rules: ImageRules) -> None:
        """Real images: read in the files' order, each checked against what ingest saw, and put in the rows' order."""
        places = sorted(range(len(rows)), key=lambda i: (rows[i]["path"], i))
        self.pack(pack_name(split), rows, ((i, same_content(images, rows[i])) for i in places), rules)

    def pack(
        self, name: str, rows: Sequence[Mapping[str, Any]], contents: Iterable[tuple[int, bytes]], rules: ImageRules
    ) -> None:
        """Commit the unit unless it exists: for each row the file that ``contents`` gives with its place.

        It is compared here with what was written, for those who read it. Raises DamagedError.
        """
        labels, attributes = ([row[key] for row in rows] for key in ("label", "attribute"))
        names = self.label_names, self.attribute_names
        self.units.commit(name, lambda folder: pack(folder, contents, labels, attributes, *names, self.size, rules))
        _ = self.units[name]


def pack(
    folder: Path,
    contents: Iterable[tuple[int, bytes]],
    labels: Sequence[str],
    attributes: Sequence[str],
    label_names: Sequence[str],
    attribute_names: Sequence[str],
    size: int,
    rules: ImageRules,
) -> None:
    """Decode image files and write ``pixels.npy``, ``labels.npy``, ``groups.npy`` and ``sizes.npy`` (labels, groups).

    ``contents`` gives (place, file) in any order: files are read fastest in their own.
    """
    pixels = _array(folder / "pixels.npy", (len(labels), size, size, 3))
    for place, content in contents:
        pixels[place] = decode(content, size, rules)
    pixels.flush()
    y = np.array([list(label_names).index(v) for v in labels], np.int64)
    a = np.array([list(attribute_names).index(v) for v in attributes], np.int64)
    np.save(folder / "labels.npy", y)
    np.save(folder / "groups.npy", group_index(y, a, len(attribute_names)))
    np.save(folder / "sizes.npy", np.array([len(label_names), len(label_names) * len(attribute_names)]))


def _array(path: Path, shape: tuple[int, ...]) -> Any:
    """A new uint8 array on disk, mapped into memory; its room is taken at once.

    A page for which the disk has no room any more would end the process by a signal, without a word. Raises OSError.
    """
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def load_pack(folder: Path) -> Images:
    """Read a pack; the pixels are mapped, not copied."""
    read: Any = lambda name, mode=None: np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)  # noqa: E731
    return Images(read("pixels", "r"), read("labels"), read("groups"))


def has_synthetic(packs: Path, method: str) -> bool:
    """Whether a method has synthetic images."""
    return Units(packs).has(pack_name("synthetic", method))


def load_data(packs: Path, method: str) -> Data:
    """Training, validation and (for methods that learn from them) synthetic images of a run; perhaps none of these."""
    units = Units(packs)
    train = load_pack(units.large(pack_name(TRAIN)))
    sizes = np.load(units.large(pack_name(TRAIN)) / "sizes.npy", allow_pickle=False)
    n_labels, n_groups = (int(n) for n in sizes)
    synthetic = taken(train, np.zeros(0, np.int64))
    if method in SYNTHETIC and has_synthetic(packs, method):
        synthetic = load_pack(units.large(pack_name("synthetic", method)))
    return Data(train, load_pack(units.large(pack_name(VALIDATION))), synthetic, n_labels, n_groups)
