"""The classifier's images as arrays on disk: decoded once, mapped into every trial's memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairsynth.classify.images import Data, Images
from fairsynth.classify.methods import SYNTHETIC
from fairsynth.config import ImageRules
from fairsynth.data.decode import decode
from fairsynth.groups import group_index


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
    """Decode image files and write ``pixels.npy``, ``labels.npy`` and ``groups.npy``.

    ``contents`` gives (place, file) in any order, for files are read fastest in theirs.
    """
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, (len(labels), size, size, 3))
    for place, content in contents:
        pixels[place] = decode(content, size, rules)
    pixels.flush()
    y = np.array([list(label_names).index(v) for v in labels], np.int64)
    a = np.array([list(attribute_names).index(v) for v in attributes], np.int64)
    np.save(folder / "labels.npy", y)
    np.save(folder / "groups.npy", group_index(y, a, len(attribute_names)))
    np.save(folder / "sizes.npy", np.array([len(label_names), len(label_names) * len(attribute_names)]))


def load_pack(folder: Path) -> Images:
    """Read a pack; the pixels are mapped, not copied."""
    read: Any = lambda name, mode=None: np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)  # noqa: E731
    return Images(read("pixels", "r"), read("labels"), read("groups"))


def load_data(packs: Path, method: str) -> Data:
    """Training, validation and (for methods that learn from them) synthetic images of a run."""
    train = load_pack(packs / "pack-train")
    n_labels, n_groups = (int(n) for n in np.load(packs / "pack-train" / "sizes.npy", allow_pickle=False))
    synthetic = load_pack(packs / f"pack-synthetic-{method}") if method in SYNTHETIC else train
    return Data(train, load_pack(packs / "pack-val"), synthetic, n_labels, n_groups)
