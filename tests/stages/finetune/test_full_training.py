"""The whole UNet of one cluster: as a plain loop of torch trains it, however often stopped, on however many workers."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from fairsynth.config import FinetuneConfig
from fairsynth.models import data_parallel
from fairsynth.models.data_parallel import Ranks
from fairsynth.stages.finetune.denoising import Latents, Sampler
from fairsynth.stages.finetune.full_training import FullState, FullTrainer, load_full, save_full
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.lot_state import Progress, Trained
from tests.support.lots import (
    CONFIG,
    FULL_JOB,
    ONE_LEVEL,
    TWO_LEVELS,
    VALIDATING,
    break_once,
    changed,
    denoiser_of,
    difference,
    full_trainer,
    jobs,
    kept_full,
    latents_of,
    latents_of_shapes,
    noise_of,
    progress_facts,
    same_bits,
    scheduler,
    texts_of,
    tiny_unet,
    train_full,
)


def plain_loop(
    base: UNet2DConditionModel,
    config: FinetuneConfig,
    job: AdapterJob,
    noise: DDPMScheduler,
    load: Callable[[AdapterJob], Latents] = latents_of,
) -> UNet2DConditionModel:
    """DreamBooth of the whole UNet, as its public scripts do it."""
    unet, teacher, own = copy.deepcopy(base).requires_grad_(True), copy.deepcopy(base), config.batch_size
    optimizer = torch.optim.AdamW(unet.parameters(), lr=job.learning_rate, weight_decay=config.weight_decay)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / max(1, job.warmup_steps)))
    sampler, texts = Sampler(load(job), job.seed, config, noise_of()), texts_of([job])
    for step in range(job.steps):
        draw = sampler(step)
        clean, eps, times = draw.clean.double(), draw.noise.double(), draw.levels
        prompts = [job.prompt] * own + [job.class_prompt] * (len(times) - own)
        context, noisy = torch.stack([texts[p]["text"] for p in prompts]).double(), noise.add_noise(clean, eps, times)
        kind = noise.config.prediction_type
        target = {"epsilon": eps, "v_prediction": noise.get_velocity(clean, eps, times), "sample": clean}[kind].clone()
        if config.prior == "teacher" and config.prior_size:
            with torch.no_grad():
                target[own:] = teacher(noisy[own:], times[own:], context[own:]).sample
        errors = (unet(noisy, times, context).sample - target).pow(2).mean(dim=(1, 2, 3))
        ratio = noise.alphas_cumprod[times] / (1 - noise.alphas_cumprod[times])
        divided = {"epsilon": ratio, "v_prediction": ratio + 1, "sample": 1}[kind]
        errors = errors * (ratio.clamp(max=config.snr_ceiling) / divided).double()
        loss = errors[:own].mean()
        if len(times) > own:
            loss = loss + config.prior_weight * errors[own:].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), config.max_grad_norm)
        optimizer.step()
        warm.step()
    return unet.requires_grad_(False)


@pytest.mark.parametrize(
    "case",
    [{}, {"prior": "images"}, {"prior_weight": 0.0}, {"prediction": "v_prediction"}, {"prediction": "sample"}],
    ids=str,
)
@pytest.mark.parametrize("shape", [TWO_LEVELS, ONE_LEVEL], ids=["two levels", "one level"])
def test_a_cluster_is_trained_as_by_a_plain_loop(case: dict[str, str], shape: dict[str, object]) -> None:
    options = dict(case)
    noise = scheduler(options.pop("prediction", "epsilon"))
    config, unet = CONFIG.model_copy(update=options), tiny_unet(torch.float64, shape)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    expected = dict(plain_loop(unet, config, FULL_JOB, noise).named_parameters())
    found = FullTrainer(denoiser_of(unet, noise), config, texts_of([FULL_JOB])).train(FULL_JOB, latents_of(FULL_JOB))
    assert difference(found.weights, expected) <= 1e-8
    assert difference(found.weights, before) > 1e-3, "what has not moved proves nothing"
    assert found.progress.step == FULL_JOB.steps and not found.failure
    assert same_bits(unet.state_dict(), before), "and the UNet is the base again"
    assert not any(parameter.requires_grad for parameter in unet.parameters())


def test_images_of_several_shapes_are_trained_on_as_by_a_plain_loop() -> None:
    unet, latents = tiny_unet(torch.float64, TWO_LEVELS), latents_of_shapes(FULL_JOB)
    expected = dict(plain_loop(unet, CONFIG, FULL_JOB, scheduler(), latents_of_shapes).named_parameters())
    found = FullTrainer(denoiser_of(unet), CONFIG, texts_of([FULL_JOB])).train(FULL_JOB, latents)
    assert difference(found.weights, expected) <= 1e-8
    assert len({*latents.shapes}) == 3
    validated = FullTrainer(denoiser_of(unet), VALIDATING, texts_of([FULL_JOB])).train(FULL_JOB, latents)
    assert len(validated.progress.validation) == FULL_JOB.steps // VALIDATING.validate_every


def test_one_cluster_after_another_is_as_one_alone() -> None:
    first, second = jobs([3, 4])
    trainer = full_trainer(CONFIG, torch.float32)
    trainer.train(first, latents_of(first))
    found = trainer.train(second, latents_of(second))
    alone = full_trainer(CONFIG, torch.float32).train(second, latents_of(second))
    assert same_bits(found.weights, alone.weights)


@pytest.mark.slow
def test_going_on_from_any_checkpoint_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_once(monkeypatch, [FULL_JOB], {FULL_JOB.cluster: 6})
    undisturbed, states = kept_full(VALIDATING, dtype=torch.float32)
    assert undisturbed.progress.attempt == 1
    best = undisturbed.progress.since
    # Six steps, the seventh went wrong; then from the best to one before the last, after which the result is there.
    assert [state.progress.step for state in states] == [*range(1, 7), *range(best + 1, 10)] and 2 <= best <= 6
    for state in states:
        save_full(state, tmp_path / "full.safetensors")
        resumed = train_full(VALIDATING, dtype=torch.float32, resume=load_full(tmp_path / "full.safetensors"))
        assert same_bits(resumed.weights, undisturbed.weights), state.progress
        assert progress_facts(resumed.progress) == progress_facts(undisturbed.progress)


def test_a_notice_makes_one_more_checkpoint_at_once() -> None:
    steps, asked = list[int](), list[int]()

    def notice() -> bool:
        asked.append(1)
        return len(asked) >= 3

    config = CONFIG.model_copy(update={"checkpoint_every": 4})
    train_full(config, notice=notice, checkpoint=lambda state: steps.append(state.progress.step))
    assert steps == [3, 4, 8] and len(asked) == 3


class Meeting:
    """Threads that stand for workers: each adds up what all of them bring."""

    def __init__(self, world: int, load: Callable[[AdapterJob], Latents] = latents_of) -> None:
        self.load = load
        self.world, self.parts = world, dict[int, torch.Tensor]()
        self.barrier = threading.Barrier(world, timeout=20)
        self.messages = 0

    def ranks(self, rank: int) -> Ranks:
        """One worker's place in it."""

        def add(tensor: torch.Tensor) -> None:
            self.parts[rank] = tensor.clone()
            self.barrier.wait()
            tensor.copy_(torch.stack([self.parts[other] for other in range(self.world)]).sum(0))
            self.barrier.wait()
            self.messages += rank == 0

        return Ranks(rank, self.world, add)

    def train(self, config: FinetuneConfig, states: Sequence[FullState | None] = ()) -> list[Trained]:
        """Train one cluster, data parallel, from these states; what each worker has in the end."""

        # Made one after another: the seed of their weights is torch's own, which threads share.
        trainers = [full_trainer(config, ranks=self.ranks(rank)) for rank in range(self.world)]

        def work(trainer: FullTrainer, state: FullState | None) -> Trained:
            try:
                return trainer.train(FULL_JOB, self.load(FULL_JOB), state)
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(self.world) as pool:
            return list(pool.map(work, trainers, states or [None] * self.world))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prior", "load"), [("teacher", latents_of), ("images", latents_of), ("teacher", latents_of_shapes)]
)
@pytest.mark.parametrize("world", [2, 3])
def test_data_parallel_workers_train_what_one_does(
    prior: str, load: Callable[[AdapterJob], Latents], world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three own samples and two of the prior: of three workers one has none of the prior."""
    break_once(monkeypatch, [FULL_JOB], {FULL_JOB.cluster: 5})
    config = VALIDATING.model_copy(update={"batch_size": 3, "prior_batch_size": 2, "prior": prior})
    one = full_trainer(config).train(FULL_JOB, load(FULL_JOB))
    parallel = Meeting(world, load).train(config)
    assert one.progress.attempt == 1
    for found in parallel:
        assert difference(found.weights, one.weights) <= 1e-9
        assert progress_facts(found.progress)[:5] == progress_facts(one.progress)[:5]
        assert dict(found.progress.validation) == pytest.approx(dict(one.progress.validation), rel=1e-9)
        assert same_bits(found.weights, parallel[0].weights), "they must not drift apart"


@pytest.mark.parametrize("others", ["none", "older"])
def test_workers_go_on_from_the_state_of_the_first_whatever_the_others_read(others: str) -> None:
    states = list[FullState]()
    whole = train_full(VALIDATING.model_copy(update={"checkpoint_every": 3}), checkpoint=states.append)
    old, new = states[0], states[-1]
    assert (old.progress.step, new.progress.step) == (3, 9)
    for found in Meeting(2).train(VALIDATING, [new, None if others == "none" else old]):
        assert difference(found.weights, whole.weights) <= 1e-9
        assert [step for step, _ in found.progress.validation] == [step for step, _ in whole.progress.validation]


def test_gradients_are_added_up_in_messages_of_some_size(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = Meeting(2), Meeting(2)
    whole = few.train(CONFIG)[0]
    monkeypatch.setattr(data_parallel, "_BUCKET", 1000)
    assert difference(many.train(CONFIG)[0].weights, whole.weights) <= 1e-12
    # The first says that there is no checkpoint.
    assert few.messages == 1 + 2 * FULL_JOB.steps, "the losses, and all gradients together"
    assert many.messages > 4 * FULL_JOB.steps


def test_a_loss_that_explodes_once_is_rolled_back_to_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = {name: torch.zeros_like(value) for name, value in tiny_unet(torch.float64).named_parameters()}
    start = {f"weights.{name}": value for name, value in tiny_unet(torch.float64).named_parameters()}
    moments = {f"{part}.{name}": value for part in ("first", "second") for name, value in zeros.items()}
    by_hand = train_full(CONFIG, resume=FullState(Progress(FULL_JOB.name, attempt=1), start | moments))
    break_once(monkeypatch, [FULL_JOB], {FULL_JOB.cluster: 1})
    found, states = kept_full(CONFIG)
    assert progress_facts(found.progress)[1:5] == (10, 1, 0, "loss nan at step 2, learning rate 0.0005")
    assert difference(found.weights, by_hand.weights) <= 1e-12 and not found.failure
    assert [state.progress.step for state in states] == [1, *range(1, 10)]


def test_with_a_validated_state_it_goes_on_from_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, states = kept_full(VALIDATING)
    validated = {step: loss for step, loss in undisturbed.progress.validation if step < 8}
    best = min(validated, key=lambda step: validated[step])
    at = states[best - 1]
    tensors = {name: torch.zeros_like(t) if name[:5] in ("first", "secon") else t for name, t in at.tensors.items()}
    again = replace(at.progress.copy(), attempt=1, since=best)
    by_hand = train_full(VALIDATING, resume=FullState(again, tensors))
    break_once(monkeypatch, [FULL_JOB], {FULL_JOB.cluster: 7})
    found, _ = kept_full(VALIDATING)
    assert progress_facts(found.progress)[1:4] == (10, 1, best)
    assert difference(found.weights, by_hand.weights) <= 1e-12
    assert dict(found.progress.validation) == pytest.approx(dict(by_hand.progress.validation), rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "failure"),
    [
        (1e3, r"loss [\d.e+]+ at step \d+, learning rate 1e\+03; again loss [\d.e+]+ at step \d+, learning rate 500"),
        (float("inf"), r"loss inf at step 1, learning rate inf; again loss inf at step 1, learning rate inf"),
    ],
)
def test_a_loss_that_explodes_twice_is_a_failure_with_a_diagnosis(rate: float, failure: str) -> None:
    trainer, states = full_trainer(CONFIG.model_copy(update={"checkpoint_every": 1})), list[FullState]()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    wild = changed(FULL_JOB, learning_rate=rate, warmup_steps=0)
    found = trainer.train(wild, latents_of(wild), checkpoint=states.append)
    assert found.weights is None and found.progress.attempt == 1
    assert re.fullmatch(failure, found.failure), found.failure
    assert same_bits(trainer.network.state_dict(), before)
    assert all(torch.isfinite(tensor).all() for state in states for tensor in state.tensors.values())
    after = trainer.train(FULL_JOB, latents_of(FULL_JOB))
    assert same_bits(after.weights, train_full(CONFIG).weights), "the next cluster never notices"
