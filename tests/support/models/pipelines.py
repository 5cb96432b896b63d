"""Folders that look like a pipeline before its weights are there, a cache of the hub that holds one, and a family of a test's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairsynth.models.families.sd import StableDiffusion

COMMIT = "c" * 40
PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"],
}


class Wide(StableDiffusion):
    """A family with values of its own, some of whose models may not be trained."""

    name, title, pipeline_class = "wide", "Wide Diffusion", "WidePipeline"
    image_size = 1024
    targets = ("to_q", "to_v")
    shared_targets = ("to_q", "to_v", "conv1")
    schedulers = ("euler", "unipc")

    def untrainable(self, network_config: Mapping[str, Any], index: Mapping[str, Any]) -> str:
        """Those that say that they were distilled."""
        return "was distilled for two steps" if index.get("distilled") else ""


def described(
    folder: Path, class_name: str = "StableDiffusionPipeline", network: object = None, **index: object
) -> Path:
    """A folder with a pipeline's configurations alone. ``network``: its network's; ``index``: changes of model_index.json."""
    (folder / "unet").mkdir(parents=True)
    content = {"_class_name": class_name, **PARTS, **index}
    (folder / "model_index.json").write_text(json.dumps(content), "utf-8")
    (folder / "unet" / "config.json").write_text(json.dumps(network or {}), "utf-8")
    return folder


def in_cache(cache: Path, name: str, class_name: str, **index: object) -> Path:
    """The same in a cache as the hub's client lays it, as the main branch of a hub id."""
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT, "utf-8")
    return described(folder / "snapshots" / COMMIT, class_name, **index)
