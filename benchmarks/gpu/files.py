"""Batches of images with their files: pixels that the host waits for, or that come while the GPU goes on."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image

from fairsynth.models.families.table import family_of
from fairsynth.models.sampling import Pixels

BATCHES, WRITERS = 3, 4


def with_files(pipeline: Any, latents: Callable[[], torch.Tensor], batch: int, beside: bool) -> Callable[[], list[int]]:
    """A call that makes a few batches and their PNG files, and returns the files' sizes.

    ``beside``: pixels are rounded on the device and come while it makes the next batch; else the host waits for them and
    rounds them, as fairsynth did before.
    """
    pool = ThreadPoolExecutor(WRITERS)

    def call() -> list[int]:
        files = []
        for _ in range(BATCHES):
            pixels = Pixels(pipeline, latents()).numpy if beside else _waited_for(pipeline, latents())
            files += [pool.submit(_png, pixels, place) for place in range(batch)]
        return [file.result() for file in files]

    return call


@torch.no_grad()
def _waited_for(pipeline: Any, latents: torch.Tensor) -> Callable[[], Any]:
    shares = (family_of(pipeline).decode(pipeline, latents).float() / 2 + 0.5).clamp(0, 1)
    pixels = (shares.permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)
    return lambda: pixels


def _png(pixels: Callable[[], Any], place: int) -> int:
    file = io.BytesIO()
    Image.fromarray(pixels()[place]).save(file, "PNG")
    return file.tell()
