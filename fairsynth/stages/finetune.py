"""Stage 4, finetune: which adapters there are to train (DreamBooth with LoRA, one per cluster or per group).

DreamBooth: arXiv 2208.12242; clusters of a group: arXiv 2511.08711.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fairsynth.adapter_jobs import AdapterJob
from fairsynth.config import DataConfig, FinetuneConfig
from fairsynth.groups import Group
from fairsynth.manifest import seed_for
from fairsynth.prompts import fill

VERSION = 1


def plan_adapters(
    config: FinetuneConfig, data: DataConfig, clusters: Mapping[Group, Mapping[str, int]], seed: int
) -> list[AdapterJob]:
    """The adapters that the generator calls for, from the cluster of each image of each group.

    ``clustered-dreambooth``: one per cluster. ``dreambooth`` and ``lora``: one per group.
    ``vanilla``: none. Groups without clusters get none.
    """
    jobs = []
    for group, assignment in sorted(clusters.items()):
        merged = {
            image: cluster if config.generator == "clustered-dreambooth" else 0 for image, cluster in assignment.items()
        }
        for cluster in sorted(set(merged.values())) if config.generator != "vanilla" else ():
            token = "" if config.generator == "lora" else config.rare_tokens[cluster % len(config.rare_tokens)]
            images = tuple(sorted(image for image, c in merged.items() if c == cluster))
            prompt, class_prompt = fill(config.prompt, data, group, token), fill(config.prompt, data, group)
            job_seed, steps = seed_for(seed, "adapter", *group, cluster), step_budget(config, len(images))
            jobs.append(AdapterJob(group, cluster, images, prompt, class_prompt, job_seed, steps))
    return jobs


def step_budget(config: FinetuneConfig, images: int) -> int:
    """Optimizer steps for a cluster of ``images``: few images are learnt by heart when they are seen too often."""
    if config.max_epochs is None:
        return config.steps
    return min(config.steps, math.ceil(config.max_epochs * images / config.batch_size))


def uses_prior(config: FinetuneConfig) -> bool:
    """Whether training preserves the class prior with images of the base model."""
    return config.generator in ("dreambooth", "clustered-dreambooth") and config.prior_weight > 0


def lots(jobs: Sequence[AdapterJob], per_run: int) -> list[list[AdapterJob]]:
    """Cut the jobs into lots of at most ``per_run``; the cut depends on the jobs alone."""
    return [list(jobs[start : start + per_run]) for start in range(0, len(jobs), per_run)]
