"""Adapters are validated on images that they are not trained on, and the best state is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import set_peft_model_state_dict

from fairsynth.config import FinetuneConfig
from fairsynth.stages.finetune.denoising import Latents, Sampler
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot_state import LotState, Trained
from tests.support.lots import (
    CONFIG,
    VALIDATING,
    changed,
    difference,
    furthest_apart,
    jobs,
    latents_of,
    latents_of_shapes,
    noise_of,
    row_of,
    same_bits,
    scheduler,
    stack_of,
    texts_of,
    tiny_unet,
    train,
)

# The last layer alone, at a rate that grows beyond all reason: the early states are the good ones.
WORSENING = VALIDATING.model_copy(
    update={"target_modules": ("conv_out",), "prior_weight": 0.0, "batch_size": 4, "checkpoint_every": 1}
)


def worsening_jobs() -> list[AdapterJob]:
    """Jobs that are best early, in training by ``WORSENING``."""
    return [changed(job, learning_rate=0.2, warmup_steps=12) for job in jobs([12] * 8)]


def kept(work: Sequence[AdapterJob], config: FinetuneConfig) -> tuple[dict[str, Trained], list[LotState]]:
    """Train in float64; results and all checkpoints."""
    states: list[LotState] = []
    return train(tiny_unet(torch.float64), work, config, checkpoint=states.append), states


def test_the_best_state_is_kept() -> None:
    found, states = kept(worsening_jobs(), WORSENING)
    stack, early = stack_of(tiny_unet(torch.float64), WORSENING), 0
    for name, result in found.items():
        losses = dict(result.progress.validation)
        best = min(losses, key=lambda step: losses[step])
        assert list(losses) == [2, 4, 6, 8, 10, 12] and result.progress.step == 12
        if best < 12:
            early += 1
            row = row_of(next(state for state in states if state.steps == best), name)
            assert same_bits(result.weights, stack.state(row.weights))
    assert early >= 4, "late states that are no worse prove nothing"


def held_out_loss(
    unet: UNet2DConditionModel,
    job: AdapterJob,
    config: FinetuneConfig,
    result: Trained,
    load: Callable[[AdapterJob], Latents] = latents_of,
) -> float:
    """The loss of an adapter on its held-out draws, by peft."""
    draws, noise = Sampler(load(job), job.seed, config, noise_of()).held_out(), scheduler()
    lora = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.target_modules))
    unet.add_adapter(lora, "validated")
    set_peft_model_state_dict(unet, dict(result.weights or {}), adapter_name="validated")
    losses = list[torch.Tensor]()
    for draw in draws:
        texts = texts_of([job])[job.prompt]["text"].expand(len(draw.levels), -1, -1).double()
        noisy = noise.add_noise(draw.clean, draw.noise, draw.levels).double()
        with torch.no_grad():
            errors = (unet(noisy, draw.levels, texts).sample - draw.noise).square().mean((1, 2, 3))
        ratio = noise.alphas_cumprod[draw.levels] / (1 - noise.alphas_cumprod[draw.levels])
        losses.append(errors * ratio.clamp(max=config.snr_ceiling) / ratio)
    unet.delete_adapters("validated")
    assert sum(map(len, losses)) == config.validation_samples
    return float(torch.cat(losses).mean())


@pytest.mark.parametrize("load", [latents_of, latents_of_shapes])
def test_the_loss_that_is_told_is_that_of_the_kept_weights_on_images_that_were_held_out(
    load: Callable[[AdapterJob], Latents],
) -> None:
    work, unet = jobs([6, 5, 4, 6]), tiny_unet(torch.float64)
    for name, result in train(unet, work, VALIDATING, load=load).items():
        (job,) = (job for job in work if job.name == name)
        lowest = min(loss for _, loss in result.progress.validation)
        assert lowest == pytest.approx(held_out_loss(unet, job, VALIDATING, result, load), rel=1e-6)


def test_patience_stops_an_adapter_that_gets_no_better() -> None:
    work = worsening_jobs()
    whole, _ = kept(work, WORSENING)
    found, _ = kept(work, WORSENING.model_copy(update={"patience": 3}))
    stopped = 0
    for name, result in found.items():
        steps, losses = zip(*whole[name].progress.validation, strict=True)
        # The first validation that is the third in a row without a new best one; else the last step.
        waits = [len(losses[:end]) - 1 - losses[:end].index(min(losses[:end])) for end in range(1, len(losses) + 1)]
        end = next((step for step, wait in zip(steps, waits, strict=True) if wait == 3), 12)
        assert result.progress.step == end
        best = min(losses[: steps.index(end) + 1])
        assert result.progress.best_step == steps[losses.index(best)]
        stopped += end < 12
    assert 0 < stopped < len(found)


def test_a_place_that_patience_frees_is_taken() -> None:
    work = worsening_jobs()
    config = WORSENING.model_copy(update={"patience": 1})
    whole, narrow = kept(work, config)[0], train(tiny_unet(torch.float64), work, config, width=3)
    assert furthest_apart(narrow, whole) <= 1e-8
    assert {name: result.progress.step for name, result in narrow.items()} == {
        name: result.progress.step for name, result in whole.items()
    }


def test_small_clusters_hold_nothing_out_and_keep_the_last_state() -> None:
    """Clusters of 2 to 9 images: those of 6 and more hold images out."""
    work = jobs([6] * 8)
    config = VALIDATING.model_copy(update={"validation_min_images": 6})
    found = train(tiny_unet(torch.float64), work, config)
    unvalidated = train(tiny_unet(torch.float64), work, CONFIG)
    for job in work:
        result, small = found[job.name], len(job.image_ids) < 6
        assert bool(result.progress.validation) == (not small)
        if small:
            assert difference(result.weights, unvalidated[job.name].weights) <= 1e-10
            assert result.progress.best is None and result.progress.step == 6
        else:
            assert difference(result.weights, unvalidated[job.name].weights) > 1e-4, "it had fewer images"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_validation_does_not_change_the_training(dtype: torch.dtype) -> None:
    work, states = jobs([9, 8, 9, 7]), dict[int, list[LotState]]()
    for every in (2, 1000):
        config = VALIDATING.model_copy(update={"validate_every": every, "checkpoint_every": 1})
        states[every] = []
        found = train(tiny_unet(dtype), work, config, checkpoint=states[every].append)
        assert all(len(result.progress.validation) == (5 if every == 2 else 1) for name, result in found.items()
                   if result.job.steps == 9)  # fmt: skip
    assert [state.steps for state in states[2]] == [state.steps for state in states[1000]]
    for often, once in zip(states[2], states[1000], strict=True):
        assert [row.name for row in often.rows] == [row.name for row in once.rows]
        assert torch.equal(often.weights_NP, once.weights_NP) and torch.equal(often.second_NP, once.second_NP)


def test_a_loss_on_held_out_images_that_is_no_number_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    work = jobs([5, 5])
    expected = train(tiny_unet(torch.float64), work[1:], VALIDATING)
    plain = Sampler.held_out

    def held_out(self: Sampler):  # type: ignore[no-untyped-def]
        draws = plain(self)
        return draws if self.seed != work[0].seed else [changed_noise(draw) for draw in draws]

    monkeypatch.setattr(Sampler, "held_out", held_out)
    found = train(tiny_unet(torch.float64), work, VALIDATING)
    failed = found.pop(work[0].name)
    assert failed.weights is None
    assert failed.failure == "loss nan at step 2, learning rate 0.001; again loss nan at step 2, learning rate 0.0005"
    assert furthest_apart(found, expected) <= 1e-12


def changed_noise(draw):  # type: ignore[no-untyped-def]
    """The same with noise that is not a number."""
    return type(draw)(draw.clean, draw.noise * float("nan"), draw.levels)
