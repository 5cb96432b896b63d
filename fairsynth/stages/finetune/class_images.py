"""The images of each class prompt, made by the base model, for ``prior: images``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fairsynth.config import FinetuneConfig, ModelsConfig, SynthesizeConfig
from fairsynth.data.vectors import vectors
from fairsynth.manifest import seed_for, seeds_apart
from fairsynth.models.diffusion import generate, load_pipeline


class ClassLatents:
    """Makes the class images of one class prompt as latents: shared by all its adapters.

    ``prompts`` as ``output.class_units`` gives them; ``__call__`` returns a table with the column ``mean``.
    """

    def __init__(
        self,
        models: ModelsConfig,
        config: FinetuneConfig,
        synthesize: SynthesizeConfig,
        prompts: Mapping[str, str],
        seed: int,
    ) -> None:
        self.models, self.config, self.synthesize, self.prompts, self.seed = models, config, synthesize, prompts, seed
        self.pipeline = load_pipeline(models)

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        prompt, size = self.prompts[task["name"]], self.synthesize.unit_size
        seeds = seeds_apart(partial(_seed, self.seed, prompt), self.config.class_images)
        parts = [
            generate(
                self.pipeline,
                [prompt] * len(part),
                [self.synthesize.negative_prompt] * len(part),
                part,
                self.models.image_size,
                self.synthesize.steps,
                self.synthesize.guidance,
                latents_only=True,
            )
            for part in (seeds[start : start + size] for start in range(0, len(seeds), size))
        ]
        latents = np.concatenate(parts)
        return {"latents": pa.table({"mean": vectors(latents.reshape(len(latents), -1))})}


def _seed(seed: int, prompt: str, number: int, again: int) -> int:
    return seed_for(seed, "class", prompt, number, *([again] if again else []))
