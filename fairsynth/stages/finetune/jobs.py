"""The adapters to train (DreamBooth with LoRA, one per cluster or per group).

DreamBooth: arXiv 2208.12242; clusters of a group: arXiv 2511.08711.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairsynth.artifacts import fingerprint
from fairsynth.config import DataConfig, FinetuneConfig
from fairsynth.groups import Group
from fairsynth.manifest import seed_for
from fairsynth.prompts import fill

# Default number of adapters of a lot: a lost node costs at most their work since the last checkpoint.
MOST_PER_LOT = 64


@dataclass(frozen=True)
class AdapterJob:
    """One adapter to train: which images, under which prompt, from which seed."""

    group: Group
    cluster: int
    image_ids: tuple[str, ...]
    prompt: str
    class_prompt: str
    seed: int
    steps: int
    learning_rate: float
    warmup_steps: int = 0

    @property
    def name(self) -> str:
        """Name of the adapter and of its unit."""
        return f"{self.group.slug}--{self.cluster}"


def plan_adapters(
    config: FinetuneConfig,
    data: DataConfig,
    clusters: Mapping[Group, Mapping[str, int]],
    seed: int,
    counts: Mapping[Group, int] | None = None,
) -> list[AdapterJob]:
    """The adapters that the generator needs, from the cluster of each image of each group.

    ``clustered-dreambooth``: one per cluster. ``dreambooth`` and ``lora``: one per group.
    ``vanilla``: none. Groups without clusters get none. ``counts``: training images of all groups, those without
    clusters too, for ``prior_group``.
    """
    jobs = []
    for group, assignment in sorted(clusters.items()):
        merged = {
            image: cluster if config.generator == "clustered-dreambooth" else 0 for image, cluster in assignment.items()
        }
        for cluster in sorted(set(merged.values())) if config.generator != "vanilla" else ():
            token = token_of(config, cluster)
            images = tuple(sorted(image for image, c in merged.items() if c == cluster))
            prompt = fill(config.prompt, data, group, token)
            class_prompt = fill(config.prompt, data, _prior_group(config, group, counts or {}))
            job_seed, steps = seed_for(seed, "adapter", *group, cluster), step_budget(config, len(images))
            jobs.append(
                AdapterJob(
                    group,
                    cluster,
                    images,
                    prompt,
                    class_prompt,
                    job_seed,
                    steps,
                    config.rate,
                    config.warmup_steps,
                )
            )
    return jobs


def token_of(config: FinetuneConfig, cluster: int) -> str:
    """The rare token of a cluster's adapter."""
    return "" if config.generator == "lora" else config.rare_tokens[cluster % len(config.rare_tokens)]


def _prior_group(config: FinetuneConfig, group: Group, counts: Mapping[Group, int]) -> Group:
    """The group whose class prompt an adapter's prior is of; its own where no other has its attribute or label."""
    part = {"own": None, "same-attribute": 1, "same-label": 0}[config.prior_group]
    others = [other for other in counts if part is not None and other != group and other[part] == group[part]]
    return min(others, key=lambda other: (counts[other], other)) if others else group


def recipe(config: FinetuneConfig) -> dict[str, Any]:
    """The fields on which the adapters depend: changing any other must not train them again."""
    # When work is stored or given up does not change its result.
    unused = {"checkpoint_every", "max_failed_share"}
    adapter = config.parameters == "adapter"
    unused |= {"full_learning_rate"} if adapter else {"learning_rate", "rank", "alpha", "target_modules"}
    if config.generator == "lora":
        unused |= {"rare_tokens"}
    if not config.prior_size:
        unused |= {"prior", "prior_weight", "prior_batch_size", "prior_group"}
    if not needs_class_images(config):
        unused |= {"class_images"}
    if config.prior_group == "own":
        unused |= {"prior_group"}  # adapters from before this choice existed keep their identity
    return config.model_dump(exclude=unused)


def step_budget(config: FinetuneConfig, images: int) -> int:
    """Optimizer steps for a cluster of ``images``: few images are memorised when they are seen too often."""
    if config.max_epochs is None:
        return config.steps
    return min(config.steps, math.ceil(config.max_epochs * images / config.batch_size))


def needs_class_images(config: FinetuneConfig) -> bool:
    """Whether training preserves the class prior with images of the base model."""
    return config.prior == "images" and config.prior_size > 0


def lots(jobs: Sequence[AdapterJob], workers: int, per_lot: int | None = None) -> list[list[AdapterJob]]:
    """Deal the jobs to lots of at most ``per_lot``, so that each has about as many steps as the others.

    None: one lot per worker, or more lots where one would have more than 64. The lots depend on
    all jobs alike, done or not, so a second run finds those of the first.
    """
    if not jobs:
        return []
    count = math.ceil(len(jobs) / (per_lot or MOST_PER_LOT))
    if per_lot is None:
        count = max(count, min(workers, len(jobs)))
    ordered = sorted(jobs, key=lambda job: (-job.steps, job.name))
    return [ordered[start::count] for start in range(count)]


def lot_name(lot: Sequence[AdapterJob]) -> str:
    """Name of a lot, from the identity of its adapters, without text of their names."""
    return f"lot-{fingerprint({'jobs': sorted(job.name for job in lot)})}"
