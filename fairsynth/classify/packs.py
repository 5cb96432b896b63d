"""The classifier's images as arrays on disk: decoded once, mapped into every trial's memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
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

# What packing looks at of a real image.
COLUMNS = ("path", "location", "sha256", "label", "attribute")
# Reading and decoding wait for the disk, or hold no lock of Python. Each thread has one decoded image, which may be large.
_MOST_THREADS = 8
# Files that are handed to the threads at once, and in memory if they come as bytes.
_AT_ONCE = 128


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
        """Real images (``COLUMNS``): read in the files' order, each checked against what ingest saw, and put in the rows'."""
        places = sorted(range(len(rows)), key=lambda i: (rows[i]["path"], i))
        self.pack(pack_name(split), rows, ((i, rows[i]) for i in places), rules, partial(same_content, images))

    def pack(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        files: Iterable[tuple[int, Any]],
        rules: ImageRules,
        read: Callable[[Any], bytes] = bytes,
    ) -> None:
        """Commit the unit unless it exists: for each row what ``read`` makes of the file that comes with its place.

        It is compared here with what was written, for those who read it. Raises DamagedError.
        """
        labels, attributes = ([row[key] for row in rows] for key in ("label", "attribute"))
        names = self.label_names, self.attribute_names
        self.units.commit(name, lambda folder: pack(folder, files, labels, attributes, *names, self.size, rules, read))
        _ = self.units[name]


def pack(
    folder: Path,
    files: Iterable[tuple[int, Any]],
    labels: Sequence[str],
    attributes: Sequence[str],
    label_names: Sequence[str],
    attribute_names: Sequence[str],
    size: int,
    rules: ImageRules,
    read: Callable[[Any], bytes] = bytes,
) -> None:
    """Decode image files and write ``pixels.npy``, ``labels.npy``, ``groups.npy`` and ``sizes.npy`` (labels, groups).

    ``files`` gives (place, file) in any order: files are read fastest in their own. ``read`` makes bytes of a file; it is
    called by several threads.
    """
    pixels = _array(folder / "pixels.npy", (len(labels), size, size, 3))

    def put(one: tuple[int, Any]) -> None:
        place, file = one
        pixels[place] = decode(read(file), size, rules)

    _by_threads(put, files)
    pixels.flush()
    y, a = (
        np.array([place[value] for value in values], np.int64)
        for values, place in ((labels, _places(label_names)), (attributes, _places(attribute_names)))
    )
    np.save(folder / "labels.npy", y)
    np.save(folder / "groups.npy", group_index(y, a, len(attribute_names)))
    np.save(folder / "sizes.npy", np.array([len(label_names), len(label_names) * len(attribute_names)]))


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _by_threads(work: Callable[[Any], None], items: Iterable[Any]) -> None:
    """The work on all items, some of which are asked for ahead; of several errors the first item's is raised."""
    waiting = iter(items)
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "pack") as pool:
        while some := list(islice(waiting, _AT_ONCE)):
            for _ in pool.map(work, some):
                pass


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
