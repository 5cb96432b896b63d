"""Each generator learns from the demo's images: what it draws shows its group more often than the base model's images do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.judging import Judges, demo_judges
from fairsynth.config import FinetuneConfig, RunConfig
from fairsynth.config.load import load_config
from fairsynth.demo import dataset
from fairsynth.groups import Group
from fairsynth.models.adapters import MergedAdapters, weights_file
from fairsynth.models.diffusion import encode_posteriors, encode_prompts, load_denoiser, load_pipeline
from fairsynth.prompts import fill
from fairsynth.stages.finetune.adapter_files import save_trained
from fairsynth.stages.finetune.denoising import Latents
from fairsynth.stages.finetune.full_training import FullTrainer
from fairsynth.stages.finetune.jobs import AdapterJob, plan_adapters, plan_shared, shared_settings
from fairsynth.stages.finetune.lot_state import Trained
from fairsynth.stages.finetune.stacked_training import StackedTrainer
from tests.support.lots import denoiser_of
from tests.support.models.plain_images import generate

# The base model's flowers are seldom taken for the photograph's.
GROUP, IMAGES = Group("high", "flower"), 48
# Less than the demo's: what an adapter has learnt is to show, more than what its prompt says.
GUIDANCE = 2.0
CASES = {
    "lora": {"generator": "lora"},
    "dreambooth": {"generator": "dreambooth"},
    "clustered": {"generator": "clustered-dreambooth"},
    "full": {"generator": "dreambooth", "parameters": "full", "steps": 30},
}


class World(NamedTuple):
    """The demo's config, training latents of the group by image, and judges that were trained on unbiased real images."""

    config: RunConfig
    latents: Mapping[str, Latents]
    judges: Judges

    def shown(self, pixels_NHW3: NDArray[np.uint8]) -> float:
        """Share of the images that show label and attribute of the group."""
        return float(self.judges(pixels_NHW3, [GROUP] * len(pixels_NHW3)).both.mean())


@pytest.fixture(scope="module")
def world() -> World:
    """That the judges are right on images that they have not seen is checked."""
    config = load_config(preset="demo")
    biased = [i for i in dataset.build() if i.split == dataset.TRAIN and (i.label, i.attribute) == GROUP][:120]
    mean, std = encode_posteriors(load_pipeline(config.models), np.stack([image.pixels for image in biased]))
    latents = {image.file_name: Latents(mean[i : i + 1], std[i : i + 1]) for i, image in enumerate(biased)}
    judges = demo_judges(epochs=12)
    assert min(judges.right.values()) > 0.9
    return World(config, latents, judges)


def drawn(world: World, trained: Trained | None, config: FinetuneConfig, folder: Path) -> NDArray[np.uint8]:
    """Images as synthesize makes them, by the weights as they are saved, or by the base model with the plain prompt."""
    pipeline, sampling = load_pipeline(world.config.models), world.config.synthesize
    prompt = fill(sampling.prompt, world.config.data, GROUP)
    if trained is not None:
        folder.mkdir()
        save_trained(trained, config, world.config.models, denoiser_of(pipeline.unet), folder)
        MergedAdapters(pipeline.unet).switch(weights_file(folder))
        prompt = trained.job.prompt
    seeds, size = list(range(IMAGES)), world.config.models.image_size
    return generate(pipeline, [prompt] * IMAGES, [""] * IMAGES, seeds, size, sampling.steps, GUIDANCE)


def train(world: World, config: FinetuneConfig) -> list[Trained]:
    """The group's adapters, or its UNet."""
    half = {image: index % 2 for index, image in enumerate(world.latents)}
    jobs = plan_adapters(config, world.config.data, {GROUP: half}, seed=0)
    pipeline, denoiser = load_pipeline(world.config.models), load_denoiser(world.config.models)
    prompts = sorted({prompt for job in jobs for prompt in (job.prompt, job.class_prompt)})
    texts = {prompt: {"text": encode_prompts(pipeline, [prompt])["text"][0].float()} for prompt in prompts}

    def load(job: AdapterJob) -> Latents:
        parts = [world.latents[image] for image in job.image_ids]
        return Latents(np.concatenate([p.mean for p in parts]), np.concatenate([p.std for p in parts]))

    if config.parameters == "full":
        return [FullTrainer(denoiser, config, texts).train(job, load(job)) for job in jobs]
    found: list[Trained] = []
    StackedTrainer(denoiser, config, texts, load).train(jobs, found.append)
    return found


@pytest.fixture(scope="module")
def of_the_base(world: World, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How many of the base model's images show the group."""
    return world.shown(drawn(world, None, world.config.finetune, tmp_path_factory.mktemp("base")))


@pytest.mark.parametrize("case", CASES)
def test_images_show_their_group_more_often(world: World, of_the_base: float, case: str, tmp_path: Path) -> None:
    config = world.config.finetune.model_copy(update={"steps": 60, **CASES[case]})
    trained = train(world, config)
    assert len(trained) == (2 if case == "clustered" else 1)
    for index, one in enumerate(trained):
        shown = world.shown(drawn(world, one, config, tmp_path / str(index)))
        assert shown >= of_the_base + 0.15


# Nobody has told the base model what these mean.
NONSENSE = {"label_names": {"low": "blick", "high": "dax"}, "attribute_names": {"building": "wug", "flower": "zop"}}


def test_a_shared_adapter_learns_all_groups_by_words_that_mean_nothing(world: World, tmp_path: Path) -> None:
    config = load_config(preset="demo")
    data = config.data.model_copy(update=NONSENSE)
    shared = config.shared.model_copy(update={"steps": 150})
    images, taken = dict[str, NDArray[np.uint8]](), dict[str, Group]()
    for image in (i for i in dataset.build() if i.split == dataset.TRAIN):
        group = Group(image.label, image.attribute)
        if list(taken.values()).count(group) < 100:
            images[image.file_name], taken[image.file_name] = image.pixels, group
    sizes = Counter(taken.values())
    assert sorted(sizes.values()) == [15, 15, 100, 100]
    job, settings = plan_shared(config.finetune, shared, data, taken, 0), shared_settings(config.finetune, shared)
    pipeline, denoiser = load_pipeline(config.models), load_denoiser(config.models)
    mean, std = encode_posteriors(pipeline, np.stack([images[i] for i in job.image_ids]))
    texts = {text: {"text": encode_prompts(pipeline, [text])["text"][0].float()} for text in job.texts}
    found: list[Trained] = []
    StackedTrainer(denoiser, settings, texts, lambda _: Latents(mean, std)).train([job], found.append)
    save_trained(found[0], settings, config.models, denoiser, tmp_path)

    def shown() -> dict[Group, float]:
        shares = {}
        for group in sorted(sizes):
            prompts, how = [fill(config.finetune.prompt, data, group)] * IMAGES, config.synthesize
            pixels = generate(pipeline, prompts, [""] * IMAGES, list(range(IMAGES)), 32, how.steps, shared.guidance)
            shares[group] = float(world.judges(pixels, [group] * IMAGES).both.mean())
        return shares

    before = shown()
    MergedAdapters(pipeline.unet).switch(weights_file(tmp_path))
    after = shown()
    # By chance a quarter.
    assert sum(before.values()) / 4 < 0.4 and min(before.values()) < 0.1
    assert min(after.values()) > 0.6, (before, after)
