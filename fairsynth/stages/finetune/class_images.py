"""The images of each class prompt, made by the base model, for ``prior: images``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsynth.config import FinetuneConfig, ModelsConfig, SynthesizeConfig
from fairsynth.data.vectors import vectors
from fairsynth.manifest import seed_for, seeds_apart
from fairsynth.models.diffusion import load_without_texts
from fairsynth.models.families.table import family_of
from fairsynth.models.memory import OWN_GPU, Parts
from fairsynth.models.sampling import Wanted, denoise
from fairsynth.models.schedule import Sampling
from fairsynth.models.texts import Texts


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
        self.texts = Texts(models, [*prompts.values(), synthesize.negative_prompt])
        self.pipeline = load_without_texts(models)
        ways = f"{OWN_GPU}, or set finetune.prior to teacher"
        self.parts = Parts(f"a class image of {models.image_size} pixels", ways, synthesize.unit_size)

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        prompt = self.prompts[task["name"]]
        seeds = seeds_apart(partial(_seed, self.seed, prompt), self.config.class_images)
        latents = np.concatenate(self.parts(len(seeds), lambda part: self._made(prompt, seeds[part])))
        return {"latents": pa.table({"mean": vectors(latents.reshape(len(latents), -1))})}

    def _made(self, prompt: str, seeds: Sequence[int]) -> NDArray[Any]:
        how, pipeline, n = self.synthesize, self.pipeline, len(seeds)
        towards, against = (self.texts([text] * n, pipeline.device) for text in (prompt, how.negative_prompt))
        sampling = Sampling(how.steps, family_of(pipeline).schedulers[0])
        made = denoise(pipeline, Wanted(towards, against, [how.guidance] * n, seeds), self.models.image_size, sampling)
        return made.float().cpu().numpy()


def _seed(seed: int, prompt: str, number: int, again: int) -> int:
    return seed_for(seed, "class", prompt, number, *([again] if again else []))
