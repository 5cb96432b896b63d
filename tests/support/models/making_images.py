"""Adapters and an image maker, how a row is written, and what plain diffusers makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fairsynth.config import ModelsConfig
from fairsynth.models.adapters import save_adapter
from fairsynth.models.diffusion import load_pipeline
from fairsynth.models.image_maker import ImageMaker
from fairsynth.models.schedule import Sampling
from fairsynth.models.stacked import StackedAdapters

MODELS = ModelsConfig(diffusion="demo", clip="demo", image_size=32)
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1")
RANK, ALPHA, STEPS, GUIDANCE = 4, 8, 6, 3.0
NAMES = ("a", "b", "c")
PROMPT, NEGATIVE = "a photo of a low number on a building", "blur"
Images = NDArray[Any]
Row = dict[str, Any]


def write_adapters(folder: Path, names: Sequence[str], rank: int = RANK, alpha: int = ALPHA) -> Path:
    """Adapters that change an image, a different one per name, as finetune leaves them."""
    stack = StackedAdapters(load_pipeline(MODELS).unet, rank, alpha, TARGETS)
    for name in names:
        generator = torch.Generator().manual_seed(sum(name.encode()))
        state = stack.state(torch.randn(stack.size, generator=generator) * 0.05)
        (folder / name).mkdir(parents=True)
        save_adapter(state, folder / name, rank, alpha, TARGETS, {})
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three adapters, and one of another rank."""
    folder = write_adapters(tmp_path_factory.mktemp("adapters"), NAMES)
    write_adapters(folder, ["wide"], rank=2 * RANK)
    return write_adapters(folder, ["strong"], alpha=2 * ALPHA)


@pytest.fixture(scope="module")
def maker(adapters: Path) -> ImageMaker:
    """What is tested."""
    return ImageMaker(MODELS, Sampling(STEPS), adapters)


def row(adapter: str | None, seed: int, **more: Any) -> Row:
    """How an image is to be made."""
    return {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "guidance": GUIDANCE,
        "seed": seed,
        "adapter": adapter,
        "adapter_scale": 1.0,
        "second_adapter": None,
        "adapter_from": 0.0,
    } | more


def made(maker: ImageMaker, rows: Sequence[Row]) -> Images:
    """Images as numbers that can be subtracted."""
    found = maker(rows)
    assert found.dtype == np.uint8 and found.shape == (len(rows), 32, 32, 3)
    return found.astype(int)


def furthest(ours: Images, theirs: Images) -> float:
    """The largest difference of two values, in levels of 255."""
    return float(np.abs(ours - theirs).max())
