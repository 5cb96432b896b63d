"""What the base model's network predicts: noise, velocity or image; all are sampled alike, and nothing else is taken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from fairsynth.config import ClassifyConfig, ModelsConfig
from fairsynth.errors import ConfigError
from fairsynth.models.diffusion import load_denoiser, load_pipeline, load_text_encoder
from fairsynth.models.families.noise import Diffusion
from fairsynth.models.families.sd import StableDiffusion
from fairsynth.models.hub.check import check_sources
from fairsynth.models.sampling import Wanted, denoise
from fairsynth.models.schedule import PREDICTIONS, SCHEDULERS, Sampling, check_prediction
from fairsynth.models.sources import demo_folder
from tests.support.calling import call, refused
from tests.support.lots import noise_of

SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}
SHAPE = (2, 4, 8, 8)
CLEAN = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


class Oracle:
    """A network that knows the clean latents, and answers what a model of its kind is trained to say."""

    def __init__(self, prediction: str) -> None:
        self.noise = DDPMScheduler(**SCHEDULE, prediction_type=prediction)
        self.config = SimpleNamespace(time_cond_proj_dim=None, in_channels=4)
        self.dtype, self.asked = torch.float32, 0

    def __call__(self, sample: torch.Tensor, time: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        """The training target that belongs to a sample."""
        self.asked += 1
        times = time.long().expand(len(sample))
        alphas = self.noise.alphas_cumprod[times].view(-1, 1, 1, 1)
        clean = CLEAN.repeat(len(sample) // len(CLEAN), 1, 1, 1)
        return (Diffusion(self.noise).target(clean, (sample - alphas.sqrt() * clean) / (1 - alphas).sqrt(), times),)


class StableDiffusionPipeline:
    """What denoising takes of the pipeline of that name."""

    def __init__(self, oracle: Oracle) -> None:
        self.unet, self.scheduler, self.device, self.vae_scale_factor = oracle, oracle.noise, torch.device("cpu"), 8


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_network_that_predicts_what_training_asks_for_makes_its_images(scheduler: Any, prediction: str) -> None:
    oracle = Oracle(prediction)
    pipeline = StableDiffusionPipeline(oracle)
    assert StableDiffusion().scheduler(pipeline, Sampling(4, scheduler), 64).config.prediction_type == prediction
    texts = {"text": torch.zeros(2, 5, 16)}
    made = denoise(pipeline, Wanted(texts, texts, [3.0, 3.0], [1, 2]), 64, Sampling(30, scheduler))
    # The last step of some leaves the noise of the first timesteps.
    assert (made - CLEAN).abs().max() < 0.2 and oracle.asked >= 30


def model(folder: Path, **scheduler: object) -> str:
    """The demo's base model with another scheduler's configuration; the other files are links."""
    source = demo_folder("diffusion")
    for path in source.rglob("*"):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.parent.name != "scheduler":
            os.symlink(path, target)
    kept = json.loads((source / "scheduler" / "scheduler_config.json").read_text("utf-8")) | scheduler
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(kept), "utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ({"prediction_type": "flow_prediction"}, "'flow_prediction'"),
        ({"prediction_type": None}, "'None'"),
        ({"prediction_type": "\x1b[31mred"}, r"'\?\[31mred'"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "'the noise of FlowMatchEulerDiscreteScheduler'"),
        ({"_class_name": "EDMEulerScheduler"}, "'the noise of EDMEulerScheduler'"),
        ({"use_flow_sigmas": True}, "'the noise of DDIMScheduler'"),
    ],
)
def test_other_predictions_are_refused_before_a_weight_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: dict[str, object], said: str
) -> None:
    models = ModelsConfig(diffusion=model(tmp_path / "base", **scheduler), clip="demo")
    monkeypatch.setattr("torch.nn.Module.to", lambda *_: pytest.fail("a network was loaded"))
    line = rf"^models\.diffusion: .* predicts {said} .*epsilon, v_prediction, sample"
    for ask in (load_denoiser, load_pipeline, load_text_encoder, lambda m: check_sources(m, ClassifyConfig())):
        with pytest.raises(ConfigError, match=line):
            ask(models)


def test_a_model_that_predicts_the_image_is_loaded_with_its_kind(tmp_path: Path) -> None:
    models = ModelsConfig(diffusion=model(tmp_path / "base", prediction_type="sample"), clip="demo")
    check_sources(models, ClassifyConfig())
    assert load_denoiser(models).noise.scheduler.config.prediction_type == "sample"
    assert load_pipeline(models).scheduler.config.prediction_type == "sample"


def test_where_a_scheduler_says_nothing_diffusers_means_the_noise() -> None:
    check_prediction({"_class_name": "PNDMScheduler"}, "x")


@pytest.mark.parametrize("text", ["{", "[]", '"epsilon"'])
def test_a_scheduler_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    models = ModelsConfig(diffusion=model(tmp_path / "base"))
    (tmp_path / "base" / "scheduler" / "scheduler_config.json").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"models\.diffusion: .*scheduler_config\.json' is no scheduler's"):
        check_sources(models, ClassifyConfig())


def test_a_run_with_such_a_model_ends_at_once(tmp_path: Path) -> None:
    base = model(tmp_path / "base", prediction_type="flow_prediction")
    words = ("run", "--preset", "demo", "--models.diffusion", base, "--out", tmp_path / "out")
    assert "'flow_prediction'" in refused(call(*words))


def test_an_unknown_kind_of_prediction_is_not_trained() -> None:
    with pytest.raises(ValueError, match="no training target is known for prediction_type 'flow_prediction'"):
        noise_of("flow_prediction").target(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.tensor([3]))
