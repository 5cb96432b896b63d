"""The drawn corpus on disk: pixels, digits and textures as plain arrays."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fairsynth.demo.drawing import TEXTURE_WORDS, Drawn, draw_set

BLANK = -1
_CHUNK = 2000


@dataclass(frozen=True)
class Corpus:
    """Drawn samples: pixels uint8 (N, 32, 32, 3), digits int64 (N,) with -1 for none, textures int64 (N,)."""

    pixels: NDArray[np.uint8]
    digits: NDArray[np.int64]
    textures: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.digits)

    def images(self, index: NDArray[np.int64]) -> torch.Tensor:
        """Pixels as float32 (B, 3, 32, 32) in [-1, 1]."""
        return torch.from_numpy(self.pixels[index]).permute(0, 3, 1, 2).float() / 127.5 - 1

    def captions(self, index: NDArray[np.int64], rng: np.random.Generator) -> list[str]:
        """A random true caption for each index."""
        return [self._drawn(i).caption(rng) for i in index]

    def _drawn(self, index: int) -> Drawn:
        digit = int(self.digits[index])
        return Drawn(self.pixels[index], None if digit == BLANK else digit, TEXTURE_WORDS[self.textures[index]])

    def batches(self, size: int, steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
        """``steps`` random index batches; batch i depends on (seed, i) alone."""
        for step in range(steps):
            yield np.random.default_rng((seed, step)).integers(0, len(self), size)


def _chunk(arguments: tuple[int, int, float, bool]) -> list[Drawn]:
    count, seed, blank, held_out = arguments
    return draw_set(count, seed, blank, held_out)


def draw_corpus(count: int, seed: int, blank: float = 0.1, held_out: bool = False, workers: int = 1) -> Corpus:
    """Draw ``count`` samples (rounded up to whole chunks of 2000 when larger), the same for any number of workers."""
    chunks = [(min(_CHUNK, count), seed + i, blank, held_out) for i in range(-(-count // _CHUNK))]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            drawn = [sample for chunk in pool.map(_chunk, chunks) for sample in chunk]
    else:
        drawn = [sample for chunk in map(_chunk, chunks) for sample in chunk]
    return Corpus(
        np.stack([d.pixels for d in drawn]),
        np.array([BLANK if d.digit is None else d.digit for d in drawn], np.int64),
        np.array([TEXTURE_WORDS.index(d.texture) for d in drawn], np.int64),
    )


def cached_corpus(folder: Path, count: int, seed: int, workers: int) -> Corpus:
    """Load the corpus from ``folder`` or draw it and keep it there."""
    path = folder / f"corpus-{count}-{seed}.npz"
    if not path.exists():
        corpus = draw_corpus(count, seed, workers=workers)
        np.savez(path, pixels=corpus.pixels, digits=corpus.digits, textures=corpus.textures)
    with np.load(path, allow_pickle=False) as arrays:
        return Corpus(arrays["pixels"], arrays["digits"], arrays["textures"])
