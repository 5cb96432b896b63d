"""What families of flows share: their levels of noise in training, and the schedulers that follow the flow."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
from torch import nn

from fairsynth.config import ClassifyConfig, ModelsConfig, RunConfig
from fairsynth.data.shapes import Shape
from fairsynth.errors import ConfigError
from fairsynth.models.families.noise import Flow
from fairsynth.models.families.sd3 import StableDiffusion3
from fairsynth.models.hub.base_model import with_base
from fairsynth.models.hub.check import check_sources
from fairsynth.models.schedule import Sampling
from fairsynth.models.stacked import StackedAdapters, gradient
from tests.support.models.family_checks import AGAINST, furthest, ours, theirs
from tests.support.models.tiny_sd3 import saved_sd3, tiny_sd3

FAMILY = StableDiffusion3()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of such a family."""
    return saved_sd3(tmp_path_factory.mktemp("flow"), t5=False)


def test_noise_is_the_models_own_from_nothing_but_noise_to_hardly_any(folder: Path) -> None:
    noise = FAMILY.noise(str(folder), None)
    clean, noisy = torch.randn(3, 4, 8, 8).double(), torch.randn(3, 4, 8, 8).double()
    levels = torch.tensor([0, 500, 999])
    found = noise.noisy(clean, noisy, levels)
    # The middle of the schedule, shifted by 3.
    assert noise.levels == 1000 and noise.times(levels).tolist() == pytest.approx(
        [1000, 750, 1000 * 3 / 1002], rel=1e-2
    )
    shares = noise.times(levels).double()[:, None, None, None] / 1000
    torch.testing.assert_close(found, (1 - shares) * clean + shares * noisy, rtol=0, atol=1e-6)
    torch.testing.assert_close(noise.target(clean, noisy, levels), noisy - clean)


def test_levels_are_drawn_as_often_as_the_script_draws_them(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = FAMILY.noise(str(folder), None).draw(20_000, generator)
    even = Flow(FlowMatchEulerDiscreteScheduler(), "none").draw(20_000, generator)
    # A logit-normal share lies between a quarter and three with probability 2 Phi(log 3) - 1.
    middle = math.erf(math.log(3) / math.sqrt(2))
    for levels, expected in ((drawn, middle), (even, 0.5)):
        assert levels.min() >= 0 and levels.max() <= 999
        assert float(((levels >= 250) & (levels < 750)).float().mean()) == pytest.approx(expected, abs=0.015)
    again = FAMILY.noise(str(folder), None).draw(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_levels_weigh_as_the_family_says(folder: Path) -> None:
    scheduler, levels = FlowMatchEulerDiscreteScheduler(shift=3.0), torch.tensor([0, 400, 999])
    weights = FAMILY.noise(str(folder), None).weights(levels, 5.0)
    assert torch.equal(weights, scheduler.sigmas[levels].double() ** 2)
    assert Flow(scheduler, "none").weights(levels, 5.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_every_scheduler_follows_a_straight_flow_to_its_end(shift: float) -> None:
    """Where the velocity is the same everywhere, all of them end where it leads."""
    pipeline = tiny_sd3(t5=False, shift=shift)
    start, velocity = torch.randn(2, 1, 4, 8, 8)
    for name in FAMILY.schedulers:
        scheduler, sample = FAMILY.scheduler(pipeline, Sampling(8, name), 32), start
        assert len(scheduler.timesteps) == 8 and 990 <= scheduler.timesteps[0] <= 1000
        for time in scheduler.timesteps:
            sample = scheduler.step(velocity, time, sample, return_dict=False)[0]
        # Those of higher order begin with a thousandth of the way behind them.
        limit = 1e-5 if name == "euler" else 1e-3 * float(velocity.abs().max()) + 1e-4
        torch.testing.assert_close(sample, start - velocity, rtol=0, atol=limit)


def test_solvers_of_higher_order_have_the_models_own_shift() -> None:
    halfway = {}
    for shift in (1.0, 3.0):
        for name in ("dpm++", "unipc"):
            scheduler = FAMILY.scheduler(tiny_sd3(t5=False, shift=shift), Sampling(2, name), 32)
            halfway[shift, name] = float(scheduler.sigmas[1])
    assert [round(halfway[key], 2) for key in halfway] == [0.5, 0.5, 0.75, 0.75]


@pytest.mark.parametrize("name", ["ddim", "lcm"])
def test_schedulers_of_diffusion_are_refused(name: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"^synthesize\.scheduler: {name} is not for Stable Diffusion 3 .* euler, dpm"
    ):
        FAMILY.scheduler(tiny_sd3(t5=False), Sampling(4, name), 32)


def test_where_the_shift_is_left_open_it_goes_by_the_images_size() -> None:
    pipeline = tiny_sd3(t5=False, dynamic=True)
    assert FAMILY.mu(pipeline, 64, 4) == pytest.approx(calculate_shift(64))
    assert FAMILY.scheduler(pipeline, Sampling(4, "dpm++"), 64).config.flow_shift == pytest.approx(
        math.exp(calculate_shift(64))
    )
    more = {"negative_prompt": list(AGAINST), "max_sequence_length": 24}
    assert furthest(ours(pipeline, 3.0), theirs(tiny_sd3(t5=False, dynamic=True), 3.0, **more)) <= 1
    assert furthest(ours(pipeline, 3.0), ours(tiny_sd3(t5=False), 3.0)) > 5
    for shape in (Shape(40, 24), Shape(24, 40)):
        found = ours(pipeline, 3.0, shape=shape)
        assert found.shape == (3, *shape, 3)
        assert furthest(found, theirs(tiny_sd3(t5=False, dynamic=True), 3.0, shape=shape, **more)) <= 1
    assert FAMILY.mu(pipeline, Shape(16, 64), 4) == FAMILY.mu(pipeline, 32, 4) != FAMILY.mu(pipeline, 64, 4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"_class_name": "DDPMScheduler"}, "DDPMScheduler"), ({"invert_sigmas": True}, "with invert_sigmas")],
)
def test_a_model_with_another_kind_of_noise_is_refused(folder: Path, changes: dict[str, Any], named: str) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    before = file.read_text("utf-8")
    file.write_text(json.dumps({**json.loads(before), **changes}), "utf-8")
    try:
        with pytest.raises(ConfigError, match=f"^models.diffusion: the scheduler of .*{named}.* is not supported"):
            check_sources(ModelsConfig(diffusion=str(folder), clip="demo", image_size=32), ClassifyConfig())
    finally:
        file.write_text(before, "utf-8")


def test_what_a_run_asks_of_its_base_model_is_looked_at_before_it_begins(folder: Path) -> None:
    models = {"diffusion": str(folder), "clip": "demo", "image_size": 32}
    with_base(RunConfig(models=models, synthesize={"scheduler": "unipc"}))
    with pytest.raises(ConfigError, match="ddim is not for Stable Diffusion 3"):
        with_base(RunConfig(models=models, synthesize={"scheduler": "ddim"}))
    with_base(RunConfig(models={"diffusion": "demo", "clip": "demo"}, synthesize={"scheduler": "ddim"}))


class TwoStreams(nn.Module):
    """Its second stream ends nowhere, as that of the text does in the last block of some transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The first stream's output alone."""
        return [self.image(x), self.text(x)][0]


def test_a_layer_whose_output_reaches_no_loss_has_zeros_as_its_gradient() -> None:
    network = TwoStreams().requires_grad_(False)
    stack = StackedAdapters(network, 2, 2, ["image", "text"])
    with stack.using(torch.ones(2, stack.size)) as leaves:
        found = gradient(network(torch.ones(2, 4)).sum(1), leaves)
    first, second = (stack.state(row) for row in found)
    for state in (first, second):
        assert {name for name, value in state.items() if value.any()} == {"image.lora_A.weight", "image.lora_B.weight"}
        assert {name for name in state if name.startswith("text")} == {"text.lora_A.weight", "text.lora_B.weight"}
