"""The adapters to train (DreamBooth with LoRA, one per cluster or per group), and the one that all groups share.

DreamBooth: arXiv 2208.12242; clusters of a group: arXiv 2511.08711.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairsynth.artifacts import fingerprint
from fairsynth.config import DataConfig, FinetuneConfig, SharedConfig
from fairsynth.groups import Group
from fairsynth.manifest import seed_for
from fairsynth.prompts import fill
from fairsynth.stages.finetune.compiling import Compiling as Compiling
from fairsynth.stages.finetune.compiling import compiling as compiling

# Name of the adapter that all groups share, and of its unit: no other adapter's has an equals sign.
SHARED = "shared="
# Default number of adapters of a lot: a lost node costs at most their work since the last checkpoint.
MOST_PER_LOT = 64


@dataclass(frozen=True)
class Kinds:
    """The kinds of images that a shared adapter learns, in turn: a prompt for each, and each image's kind by number."""

    prompts: tuple[str, ...]
    of_image: tuple[int, ...]
    text_dropout: float
    """Share of the samples that it learns without a prompt."""


@dataclass(frozen=True)
class AdapterJob:
    """One adapter to train: which images, under which prompt, from which seed.

    ``kinds``: those of the adapter that all groups share; its ``group`` is empty, and it has no class prompt.
    """

    group: Group
    cluster: int
    image_ids: tuple[str, ...]
    prompt: str
    class_prompt: str
    seed: int
    steps: int
    learning_rate: float
    warmup_steps: int = 0
    kinds: Kinds | None = None

    @property
    def name(self) -> str:
        """Name of the adapter and of its unit."""
        return SHARED if self.kinds else f"{self.group.slug}--{self.cluster}"

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts that it learns by: its own and the class prompt; for a shared one those of all kinds, and none."""
        return (*self.kinds.prompts, "") if self.kinds else (self.prompt, self.class_prompt)

    def rate(self, step: int) -> float:
        """Learning rate of a step, the first being 1. A shared adapter's falls to 0 along a cosine."""
        falling = (1 + math.cos(math.pi * (step - 1) / self.steps)) / 2 if self.kinds else 1.0
        return self.learning_rate * min(1.0, step / max(1, self.warmup_steps)) * falling


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


def plan_shared(
    config: FinetuneConfig, shared: SharedConfig, data: DataConfig, group_of: Mapping[str, Group], seed: int
) -> AdapterJob | None:
    """The adapter that learns all groups in turn, each as often as the others.

    ``group_of``: the group of every training image; of large groups no more are taken than its steps see. Its prompts
    are the adapters' without a rare token; None where two groups have the same (discovered attributes have no words).
    """
    groups = sorted({*group_of.values()})
    prompts = tuple(fill(config.prompt, data, group) for group in groups)
    if not groups or len({*prompts}) < len(groups):
        return None
    most, taken = math.ceil(shared.steps * shared.batch_size / len(groups)), Counter[Group]()
    images = list[str]()
    for image in sorted(group_of, key=lambda image: (seed_for("shared", image), image)):
        taken[group_of[image]] += 1
        images += [image] if taken[group_of[image]] <= most else []
    images.sort()
    kinds = Kinds(prompts, tuple(groups.index(group_of[image]) for image in images), shared.text_dropout)
    rates, job_seed = (shared.learning_rate, shared.warmup_steps), seed_for(seed, "shared adapter")
    return AdapterJob(Group("", ""), 0, tuple(images), "", "", job_seed, shared.steps, *rates, kinds)


def shared_settings(config: FinetuneConfig, shared: SharedConfig) -> FinetuneConfig:
    """The settings by which a shared adapter is trained: no prior, and no image is held out, for a group may have one."""
    own = shared.model_dump(include={"rank", "alpha", "target_modules", "steps", "batch_size", "learning_rate"})
    return config.model_copy(
        update=own | {"generator": "lora", "prior_weight": 0.0, "validation_share": 0.0, "max_epochs": None}
    )


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
    if config.frozen_weights == "dtype":
        unused |= {"frozen_weights"}  # the same
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
