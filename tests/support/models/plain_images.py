"""Images of a base model as it is, in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from fairsynth.models.diffusion import encode_prompts
from fairsynth.models.families.table import family_of
from fairsynth.models.sampling import Wanted, denoise, to_pixels
from fairsynth.models.schedule import Sampling


def generate(
    pipeline: Any,
    prompts: Sequence[str],
    negative_prompts: Sequence[str],
    seeds: Sequence[int],
    size: int,
    steps: int,
    guidance: float,
    latents_only: bool = False,
) -> NDArray[Any]:
    """Generate one image per prompt in the family's usual way; image i depends on prompt i and seed i, not on its neighbours.

    Returns uint8 (N, size, size, 3), or float32 latents (N, C, h, w) in the network's scale with ``latents_only``.
    """
    wanted = Wanted(
        encode_prompts(pipeline, prompts), encode_prompts(pipeline, negative_prompts), [guidance] * len(prompts), seeds
    )
    sampling = Sampling(steps, family_of(pipeline).schedulers[0])
    latents = denoise(pipeline, wanted, size, sampling)
    return latents.float().cpu().numpy() if latents_only else to_pixels(pipeline, latents)
