"""The work of embed in this process, with an encoder that can be spoilt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fairsynth.config import ModelsConfig
from fairsynth.manifest import image_id
from fairsynth.stages.embed.embedding import EmbedUnit
from tests.support.datasets import tiny_folder_dataset, tree
from tests.support.ingesting import DEMO_MODELS

SIZE = 32
MODELS = ModelsConfig(**DEMO_MODELS)


class Encoder:
    """Stands in for CLIP: the mean colour as a direction, then whatever ``spoil`` makes of the vectors."""

    def __init__(self, spoil: Callable[[NDArray[np.float32]], None] = lambda vectors: None) -> None:
        self.spoil, self.calls = spoil, 0

    def images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (N, 3)."""
        self.calls += 1
        colours = pixels.reshape(len(pixels), -1, 3).mean(1) + 1
        found = (colours / np.linalg.norm(colours, axis=1, keepdims=True)).astype(np.float32)
        self.spoil(found)
        return found


def embedder(encoder: Encoder) -> EmbedUnit:
    """The work with another encoder, and without posteriors."""
    work = EmbedUnit.__new__(EmbedUnit)
    work.encoder, work.pipeline, work.batch = encoder, None, 32
    return work


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A small dataset; it must be the same after the test unless the test itself changed it."""
    folder = tiny_folder_dataset(tmp_path / "data", photos=True)
    before = tree(folder)
    yield folder
    if not (tmp_path / "meant").exists():
        assert tree(folder) == before


def rows(root: Path) -> list[dict[str, str]]:
    """Rows of the manifest, as ingest would write them."""
    found = []
    for path in sorted(root.glob("*/*.png")):
        name = path.relative_to(root).as_posix()
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append({"image_id": image_id(name), "path": name, "location": "", "sha256": sha, "label": "cat"})
    return found
