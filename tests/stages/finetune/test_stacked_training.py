"""Many adapters trained at once equal each of them trained alone by peft, whatever memory there is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from fairsynth.config import FinetuneConfig
from fairsynth.errors import ConfigError, Exhausted
from fairsynth.models.families.conditions import stacked
from fairsynth.models.stacked import StackedAdapters
from fairsynth.stages.finetune.denoising import Latents, Sampler
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot_state import LotState
from fairsynth.stages.finetune.stacked_training import MOST_AT_ONCE
from tests.support.lots import (
    CONFIG,
    TWO_LEVELS,
    VALIDATING,
    Passes,
    difference,
    fresh,
    furthest_apart,
    jobs,
    latents_of,
    latents_of_shapes,
    noise_of,
    recorded_losses,
    run,
    same_bits,
    scheduler,
    shared_job,
    texts_of,
    tiny_unet,
    train,
    trainer_of,
)
from tests.support.peft_alone import NAME, Alone, train_alone

Load = Callable[[AdapterJob], Latents]
# 100 steps each, or up to 14 fewer: some end, and others go on without them.
LONG = [100 - 7 * (i % 3) for i in range(8)]


def alone(
    unet: UNet2DConditionModel,
    job: AdapterJob,
    config: FinetuneConfig = CONFIG,
    noise: DDPMScheduler | None = None,
    load: Load = latents_of,
) -> Alone:
    """The same adapter by peft."""
    sampler = Sampler(load(job), job.seed, config, noise_of(), job.kinds)
    return train_alone(unet, noise or scheduler(), config, job, sampler, texts_of([job]), fresh(unet, job, config))


def compare_with_peft(
    unet: UNet2DConditionModel,
    work: list[AdapterJob],
    config: FinetuneConfig,
    noise: DDPMScheduler,
    load: Load = latents_of,
) -> None:
    """Train the jobs five at a time, and each alone: losses of all steps and final weights agree to 1e-8."""
    trainer = trainer_of(unet, work, config, width=5, noise=noise, load=load)
    losses = recorded_losses(trainer, work)
    found = run(trainer, work)
    assert sorted(found) == sorted(job.name for job in work)
    for job in work:
        solo = alone(unet, job, config, noise, load)
        assert difference(found[job.name].weights, solo.weights) <= 1e-8, job.name
        assert losses[job.name] == pytest.approx(solo.losses, rel=1e-8), job.name
        assert len(solo.losses) == job.steps == found[job.name].progress.step
        assert difference(solo.weights, fresh(unet, job, config)) > 0.005, "what has not moved proves nothing"


@pytest.mark.slow
def test_eight_stacked_adapters_equal_eight_solo_runs_of_peft() -> None:
    compare_with_peft(tiny_unet(torch.float64, TWO_LEVELS), jobs(LONG), CONFIG, scheduler())


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        {"prior": "images"},
        {"snr_ceiling": None},
        {"generator": "lora"},
        {"prediction": "v_prediction"},
        {"prediction": "sample"},
    ],
    ids=str,
)
def test_every_kind_of_loss_equals_that_of_peft(case: dict[str, str]) -> None:
    options = dict(case)
    noise = scheduler(options.pop("prediction", "epsilon"))
    work = jobs([15 - 4 * (i % 3) for i in range(8)])
    compare_with_peft(tiny_unet(torch.float64), work, CONFIG.model_copy(update=options), noise)


@pytest.mark.parametrize("case", [{}, {"generator": "lora"}], ids=str)
def test_adapters_of_images_of_several_shapes_equal_solo_runs_of_peft(case: dict[str, str]) -> None:
    unet, work, seen = tiny_unet(torch.float64, TWO_LEVELS), jobs([9, 8, 7, 9, 8, 9]), set[tuple[int, ...]]()
    hook = unet.register_forward_pre_hook(lambda module, args: seen.add(tuple(args[0].shape)))
    compare_with_peft(unet, work, CONFIG.model_copy(update=case), scheduler(), latents_of_shapes)
    hook.remove()
    assert {shape[2:] for shape in seen} == {(4, 4), (4, 2), (2, 4)}
    # Those who have a shape at a step go through the network together.
    assert max(shape[0] for shape in seen) >= 2 * CONFIG.batch_size


def test_a_shared_adapter_of_several_shapes_equals_one_by_peft() -> None:
    unet, config = tiny_unet(torch.float64, TWO_LEVELS), CONFIG.model_copy(update={"generator": "lora"})
    job = shared_job(12)
    (found,) = train(unet, [job], config, load=latents_of_shapes).values()
    solo = alone(unet, job, config, load=latents_of_shapes)
    assert difference(found.weights, solo.weights) <= 1e-8
    assert difference(solo.weights, fresh(unet, job, config)) > 0.005, "what has not moved proves nothing"


def test_adapters_of_several_shapes_go_on_from_any_state_to_the_same_bits() -> None:
    work, states = jobs([9, 8, 7, 9]), list[LotState]()
    config = VALIDATING.model_copy(update={"checkpoint_every": 1})
    whole = train(tiny_unet(), work, config, 3, load=latents_of_shapes, checkpoint=states.append)
    for state in states[2::3]:
        found = train(tiny_unet(), work, config, 3, load=latents_of_shapes, resume=state)
        assert found and all(same_bits(found[name].weights, whole[name].weights) for name in found)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_losses_and_gradients_of_the_first_step_equal_those_of_peft(dtype: torch.dtype, limit: float) -> None:
    unet, work = tiny_unet(dtype, TWO_LEVELS), jobs([1] * 8)
    trainer, ours = trainer_of(unet, work), dict[str, tuple[float, dict[str, torch.Tensor]]]()
    plain = trainer.step_gradient

    def keeping(stack, *rest):  # type: ignore[no-untyped-def]
        found = plain(stack, *rest)
        for name, loss, row in zip(sorted(job.name for job in work), found[0], found[2], strict=True):
            ours[name] = (loss.item(), stack.state(row))
        return found

    trainer.step_gradient = keeping  # type: ignore[method-assign]
    run(trainer, work)
    for job in work:
        solo, (loss, gradients) = alone(unet, job), ours[job.name]
        assert loss == pytest.approx(solo.losses[0], rel=limit)
        theirs = {name.replace(f".{NAME}", ""): value for name, value in solo.first_gradients.items()}
        assert difference(gradients, theirs) <= limit


def test_training_leaves_the_unet_as_it_was() -> None:
    unet, work = tiny_unet(), jobs([2, 3])
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    train(unet, work)
    assert same_bits(unet.state_dict(), before)
    assert not any(module._forward_hooks for module in unet.modules())
    assert not any(parameter.requires_grad for parameter in unet.parameters())


def test_a_layer_that_is_not_there_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"finetune\.target_modules: no layer's name ends with one of 'to_z'"):
        train(tiny_unet(), jobs([1]), CONFIG.model_copy(update={"target_modules": ("to_z",)}))


def test_smaller_passes_change_nothing() -> None:
    unet, work = tiny_unet(torch.float64), jobs([6, 5, 4, 6, 5, 4, 6, 5])
    whole = train(unet, work)
    trainer, passes = trainer_of(unet, work), Passes(unet)
    trainer.rows.size = 3
    assert furthest_apart(run(trainer, work), whole) <= 1e-10
    # Three adapters have nine samples, of which three are for the teacher.
    assert max(passes.sizes) == 9 and passes.sizes[:6] == [3, 9, 3, 9, 2, 6]


def fitting(monkeypatch: pytest.MonkeyPatch, free: float, share: float = 1.0, batch: int = 2) -> int:
    """How many adapters the trainer thinks fit into so many free bytes."""
    unet, (job,) = tiny_unet(), jobs([1])
    trainer = trainer_of(unet, [job], CONFIG.model_copy(update={"batch_size": batch, "prior_batch_size": batch}))
    trainer.memory_share = share
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    draw = Sampler(latents_of(job), job.seed, trainer.config, noise_of())(0)
    texts = stacked([trainer.texts[job.prompt], trainer.texts[job.class_prompt]])
    return trainer.fitting(StackedAdapters(unet, CONFIG.rank, CONFIG.alpha, CONFIG.target_modules), draw, texts)


def test_as_many_adapters_are_trained_at_once_as_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitting(monkeypatch, 0) == fitting(monkeypatch, 1) == 1
    assert fitting(monkeypatch, 1e15) == MOST_AT_ONCE == 16
    enough = next(free for free in (2.0**i for i in range(10, 50)) if fitting(monkeypatch, free) >= 8)
    assert 4 <= fitting(monkeypatch, enough, share=0.5) < fitting(monkeypatch, enough)
    # What an adapter keeps for its way back grows with its samples, and is more than the samples themselves.
    assert fitting(monkeypatch, enough, batch=8) <= fitting(monkeypatch, enough) / 2
    assert enough > 8 * 4 * CONFIG.batch_size * 4 * 16


def test_where_memory_holds_one_adapter_one_is_trained_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    unet, work = tiny_unet(torch.float64), jobs([3, 2, 3])
    expected = train(unet, work)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1))
    passes = Passes(unet)
    assert furthest_apart(train(unet, work, width=None), expected) <= 1e-10
    assert max(passes.sizes) == 3


@pytest.mark.parametrize("limit", [12, 4])
def test_when_memory_runs_out_smaller_passes_go_on_to_the_same_result(limit: int) -> None:
    unet, work = tiny_unet(torch.float64), jobs([5, 4, 5, 4, 5, 4, 5, 4])
    config = VALIDATING.model_copy(update={"validation_samples": 3})
    expected = train(unet, work, config)
    trainer, passes = trainer_of(unet, work, config), Passes(unet, limit)
    assert furthest_apart(run(trainer, work), expected) <= 1e-10
    assert max(passes.sizes) <= limit and trainer.rows.size == limit // 3


def test_when_memory_runs_out_while_adapters_are_validated_smaller_passes_do() -> None:
    unet, work = tiny_unet(torch.float64), jobs([3] * 4)
    config = VALIDATING.model_copy(update={"validation_samples": 8})
    expected = train(unet, work, config)
    trainer = trainer_of(unet, work, config)
    Passes(unet, limit=16)
    found = run(trainer, work)
    assert furthest_apart(found, expected) <= 1e-10 and trainer.rows.size == 2
    for name, result in found.items():
        assert [step for step, _ in result.progress.validation] == [2, 3]
        assert dict(result.progress.validation) == pytest.approx(dict(expected[name].progress.validation), rel=1e-10)


# Fault case 44: the GPU's memory runs out; see tests/models/test_memory.py.
@pytest.mark.parametrize("prior", ["teacher", "images"])
def test_where_memory_does_not_hold_one_adapters_batch_its_samples_come_in_parts(prior: str) -> None:
    unet, work = tiny_unet(torch.float64), jobs([5, 4, 5])
    config = VALIDATING.model_copy(update={"generator": "dreambooth", "prior": prior, "validation_samples": 3})
    expected = train(unet, work, config)
    trainer, passes = trainer_of(unet, work, config), Passes(unet, limit=1)
    assert furthest_apart(run(trainer, work), expected) <= 1e-10
    assert {*passes.sizes} == {1} and trainer.samples.size == 1


def test_memory_that_does_not_hold_one_sample_is_an_error_that_names_ways_out() -> None:
    unet, work = tiny_unet(), jobs([2, 2])
    Passes(unet, limit=0)
    with pytest.raises(Exhausted, match=r"not enough memory for one sample .* \(pretended\); .*models.dtype"):
        train(unet, work)
    assert not any(module._forward_hooks for module in unet.modules())


def test_a_shared_adapter_equals_one_trained_by_peft() -> None:
    settings = CONFIG.model_copy(update={"generator": "lora", "batch_size": 4})
    unet, job = tiny_unet(torch.float64), shared_job(40)
    found, expected = train(unet, [job], settings)[job.name], alone(unet, job, settings)
    assert difference(found.weights, expected.weights) <= 1e-8
    assert difference(expected.weights, fresh(unet, job, settings)) > 0.005, "what has not moved proves nothing"


def test_a_shared_adapter_that_stops_and_goes_on_ends_with_the_same_bits() -> None:
    settings = CONFIG.model_copy(update={"generator": "lora", "batch_size": 4, "checkpoint_every": 7})
    unet, (job,) = tiny_unet(), [shared_job(20)]
    states: list[Any] = []
    whole = train(unet, [job], settings, checkpoint=states.append)[job.name]
    again = train(unet, [job], settings, resume=states[-1])[job.name]
    assert states[-1].rows[0].step == 14 and whole.weights is not None and again.weights is not None
    assert same_bits(whole.weights, again.weights)
