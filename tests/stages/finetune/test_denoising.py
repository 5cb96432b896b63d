"""What adapters are trained on at a step: draws that depend on nothing but seed, attempt and step; and their losses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from fairsynth.config import FinetuneConfig
from fairsynth.models.families.noise import Diffusion
from fairsynth.models.schedule import PREDICTIONS
from fairsynth.stages.finetune.denoising import Batch, Draw, Latents, Sampler
from fairsynth.stages.finetune.jobs import Kinds
from tests.support.lots import TIMESTEPS, noise_of, scheduler

# Every latent is the number of its image; class latents are those from 100 on.
SHAPE = (4, 2, 2)
PLAIN = FinetuneConfig(batch_size=3, validation_share=0)


def numbered(count: int, spread: float = 0.0, prior: int = 7) -> Latents:
    """Latents that say which image they are of."""
    mean, other = (np.ones((n, *SHAPE), np.float32) for n in (count, prior))
    mean *= np.arange(count, dtype=np.float32)[:, None, None, None]
    other *= np.arange(100, 100 + prior, dtype=np.float32)[:, None, None, None]
    return Latents(mean, np.full_like(mean, spread), other)


def sampler_of(config: FinetuneConfig = PLAIN, count: int = 5, seed: int = 1, spread: float = 0.0) -> Sampler:
    """The draws of an adapter of numbered images."""
    return Sampler(numbered(count, spread), seed, config, noise_of())


def changed(config: FinetuneConfig, **values: object) -> FinetuneConfig:
    """The same configuration but for some values."""
    return config.model_copy(update=values)


def equal(one: Draw, other: Draw) -> bool:
    """Whether two draws are the same to the last bit."""
    return all(torch.equal(getattr(one, part), getattr(other, part)) for part in ("clean", "noise", "levels"))


def images_of(draw: Draw, config: FinetuneConfig) -> list[int]:
    """Which images a draw's own samples are of, with no spread."""
    return [int(value) for value in draw.clean[: config.batch_size, 0, 0, 0]]


@pytest.mark.parametrize("prior", ["teacher", "images"])
def test_a_draw_depends_on_seed_attempt_and_step_alone(prior: str) -> None:
    config = changed(PLAIN, prior=prior)
    expected = {(a, s): sampler_of(config, spread=0.1)(s, a) for a in (0, 1) for s in range(6)}
    mixed = sampler_of(config, spread=0.1)
    torch.manual_seed(77)
    for attempt, step in [(1, 5), (0, 0), (0, 5), (1, 0), (0, 2), (1, 3), (0, 2)]:
        torch.randn(3)
        assert equal(mixed(step, attempt), expected[attempt, step])
    draws = list(expected.values())
    assert not any(torch.equal(one.noise, other.noise) for i, one in enumerate(draws) for other in draws[:i])
    assert not any(torch.equal(sampler_of(config, seed=2)(s).noise, expected[0, s].noise) for s in range(6))


def test_numbers_outside_do_not_change() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    sampler_of()(0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("count", "batch"), [(5, 3), (4, 4), (2, 5), (7, 1), (1, 3)])
def test_every_image_is_seen_equally_often(count: int, batch: int) -> None:
    config = changed(PLAIN, batch_size=batch)
    sampler = sampler_of(config, count)
    seen = [image for step in range(count * 3) for image in images_of(sampler(step), config)]
    for passes in range(1, 3 * batch + 1):
        assert Counter(seen[: count * passes]) == dict.fromkeys(range(count), passes)
    starts = {tuple(seen[start : start + count]) for start in range(0, len(seen), count)}
    assert count < 4 or len(starts) > 1, "the passes are shuffled"


def test_held_out_images_are_never_trained_on_and_are_validated_on() -> None:
    config = changed(PLAIN, validation_share=0.2, validation_min_images=20, validation_samples=16)
    sampler = sampler_of(config, 20)
    seen = {image for step in range(40) for image in images_of(sampler(step), config)}
    (held,) = sampler.held_out()
    validated = {int(value) for value in held.clean[:, 0, 0, 0]}
    assert len(validated) == 4 and len(seen) == 16 and seen | validated == set(range(20))


@pytest.mark.parametrize(
    ("count", "share", "least", "held"),
    [(20, 0.1, 20, 2), (19, 0.1, 20, 0), (20, 0.0, 20, 0), (100, 0.25, 20, 25), (2, 0.5, 2, 1), (2, 0.1, 2, 0)],
)
def test_so_many_images_are_held_out(count: int, share: float, least: int, held: int) -> None:
    config = changed(PLAIN, validation_share=share, validation_min_images=least)
    sampler = sampler_of(config, count)
    assert len(sampler.held) == held and sorted([*sampler.held, *sampler.images]) == list(range(count))
    assert held in (0, 1) or sampler_of(config, count, seed=2).held != sampler.held, "others for another adapter"


@pytest.mark.parametrize(("samples", "levels"), [(16, 4), (6, 4), (2, 2), (1, 1)])
def test_adapters_are_validated_at_fixed_timesteps_with_fixed_noise(samples: int, levels: int) -> None:
    config = changed(PLAIN, validation_share=0.5, validation_min_images=2, validation_samples=samples)
    sampler = sampler_of(config, 10, spread=0.1)
    (first,) = sampler.held_out()
    sampler(3, 1)
    assert all(equal(*made.held_out(), first) for made in (sampler, sampler_of(config, 10, spread=0.1)))
    assert len(first.levels) == samples
    middles = [int((level + 0.5) / levels * TIMESTEPS) for level in range(levels)]
    assert first.levels.tolist() == [middles[i % levels] for i in range(samples)]


def test_latents_are_drawn_from_their_posterior() -> None:
    config = changed(PLAIN, batch_size=64)
    spread = torch.cat([sampler_of(config, 1, spread=0.5)(step).clean for step in range(8)])
    assert spread.std().item() == pytest.approx(0.5, rel=0.05) and spread.mean().item() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_teacher_sees_the_adapter_s_own_samples(size: int) -> None:
    config = changed(PLAIN, prior_batch_size=size)
    draw, own = sampler_of(config, spread=0.1)(4), sampler_of(changed(PLAIN, prior_weight=0), spread=0.1)(4)
    assert len(own.levels) == 3 and len(draw.levels) == 3 + size
    again = [0, 1, 2, *(i % 3 for i in range(size))]
    assert equal(draw, Draw(own.clean[again], own.noise[again], own.levels[again]))


def test_class_images_are_the_other_prior() -> None:
    config = changed(PLAIN, prior="images", prior_batch_size=40)
    draw, own = sampler_of(config)(0), sampler_of(changed(PLAIN, prior_weight=0))(0)
    assert equal(Draw(draw.clean[:3], draw.noise[:3], draw.levels[:3]), own), "own samples do not depend on the prior"
    assert {int(value) for value in draw.clean[3:, 0, 0, 0]} == set(range(100, 107))
    assert len(draw.noise) == len(draw.levels) == 43 and len(set(draw.levels.tolist())) > 20
    assert len({float(value) for value in draw.noise[:, 0, 0, 0]}) == 43


@pytest.mark.parametrize("values", [{"prior_weight": 0.0}, {"generator": "lora"}])
@pytest.mark.parametrize("prior", ["teacher", "images"])
def test_without_prior_preservation_there_are_own_samples_only(values: dict[str, object], prior: str) -> None:
    config = changed(PLAIN, prior=prior, **values)
    draw = sampler_of(config)(0)
    assert len(draw.clean) == len(draw.noise) == len(draw.levels) == 3
    batch = Batch(noise_of(), config, [draw], {"text": torch.randn(1, 2, 5, 8)}, 3, torch.float32)
    losses, powers = batch.losses(torch.zeros_like(batch.noisy), None)
    assert batch.asked is None and torch.isfinite(losses).all()
    assert torch.equal(losses, powers), "what predicts nothing is off by the whole target"


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("ceiling", [5.0, 1.0, 1e9])
def test_loss_weights_are_those_of_the_paper(prediction: str, ceiling: float) -> None:
    noise, times = scheduler(prediction), torch.arange(0, TIMESTEPS, 37)
    found = Diffusion(noise).weights(times, ceiling).tolist()
    for time, weight in zip(times.tolist(), found, strict=True):
        alpha = float(noise.alphas_cumprod[time])
        ratio = alpha / (1 - alpha)
        expected = min(ratio, ceiling) / {"epsilon": ratio, "v_prediction": ratio + 1, "sample": 1}[prediction]
        assert weight == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_without_a_ceiling_all_samples_weigh_the_same(prediction: str) -> None:
    assert noise_of(prediction).weights(torch.tensor([0, 500, 999]), None).tolist() == [1, 1, 1]


def test_the_three_kinds_of_prediction_have_one_loss() -> None:
    """A network's error in the clean latents, said as noise or as velocity, costs the same."""
    draw, generator = sampler_of(changed(PLAIN, batch_size=8, prior_weight=0), spread=0.1)(0), torch.Generator()
    clean, noise, times = draw.clean.double(), draw.noise.double(), draw.levels
    guess = clean + torch.randn(clean.shape, generator=generator.manual_seed(0), dtype=torch.float64)
    alpha = scheduler().alphas_cumprod[times].double().view(-1, 1, 1, 1)
    implied = (alpha.sqrt() * (clean - guess) + (1 - alpha).sqrt() * noise) / (1 - alpha).sqrt()
    found = []
    for prediction in PREDICTIONS:
        kind = scheduler(prediction)
        off = Diffusion(kind).target(guess, implied, times) - Diffusion(kind).target(clean, noise, times)
        found.append((off.square().mean((1, 2, 3)) * Diffusion(kind).weights(times, 5.0)).tolist())
    assert found[1] == pytest.approx(found[0], rel=1e-4) and found[2] == pytest.approx(found[0], rel=1e-4)
    assert len({round(loss, 6) for loss in found[0]}) > 4


@pytest.mark.parametrize(("prediction", "last"), [("epsilon", 1.0), ("v_prediction", 0.0)])
def test_at_zero_terminal_snr_the_last_timestep_has_the_limit_of_its_weight(prediction: str, last: float) -> None:
    noise = DDPMScheduler.from_config(scheduler(prediction).config, rescale_betas_zero_snr=True)
    assert noise.alphas_cumprod[-1] == 0
    found = Diffusion(noise).weights(torch.tensor([997, 998, 999]), 5.0)
    assert found[2] == pytest.approx(last, abs=1e-9) and found[1] == pytest.approx(found[2].item(), abs=1e-3)
    draws = [replace(sampler_of(spread=0.1)(0), levels=torch.full((6,), 999))]
    losses, powers = batch_of(PLAIN, draws, noise).losses(torch.ones(6, *SHAPE), torch.ones(3, *SHAPE))
    assert torch.isfinite(losses).all() and torch.isfinite(powers).all()


def batch_of(config: FinetuneConfig, draws: list[Draw], noise: DDPMScheduler | None = None, **options: object) -> Batch:
    """The batch of draws of ``batch_size`` own samples, in float64."""
    texts = torch.arange(len(draws) * 2.0)[:, None, None].expand(-1, 5, 8).reshape(len(draws), 2, 5, 8)
    options = {"own": config.batch_size, "dtype": torch.float64} | options
    return Batch(Diffusion(noise or scheduler()), config, draws, {"text": texts}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_loss_is_the_weighted_error_of_own_samples_plus_that_of_the_prior(prediction: str) -> None:
    config = changed(PLAIN, prior_batch_size=2, prior_weight=0.3)
    draws, noise = [sampler_of(config, seed=seed, spread=0.1)(0) for seed in range(4)], scheduler(prediction)
    batch, generator = batch_of(config, draws, noise), torch.Generator().manual_seed(0)
    predicted = torch.randn(20, *SHAPE, generator=generator, dtype=torch.float64)
    teacher = torch.randn(8, *SHAPE, generator=generator, dtype=torch.float64)
    assert batch.asked is not None
    texts, (noisy, times, told) = batch.conditions["text"], batch.asked
    for asked, whole in zip((noisy, times, told["text"]), (batch.noisy, batch.times, texts), strict=True):
        assert torch.equal(asked, whole[[i for i in range(20) if i % 5 >= 3]])
    assert texts[:, 0, 0].tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 6, 7, 7]
    losses, powers = batch.losses(predicted, teacher)
    for i, draw in enumerate(draws):
        clean, eps = draw.clean.double(), draw.noise.double()
        alpha = noise.alphas_cumprod[draw.levels].double()[:, None, None, None]
        velocity = alpha.sqrt() * eps - (1 - alpha).sqrt() * clean
        target = {"epsilon": eps, "v_prediction": velocity, "sample": clean}[prediction]
        assert torch.allclose(
            batch.noisy[5 * i : 5 * i + 5], alpha.sqrt() * clean + (1 - alpha).sqrt() * eps, atol=1e-5
        )
        target = torch.cat([target[:3], teacher[2 * i : 2 * i + 2]])
        weights = Diffusion(noise).weights(draw.levels, 5.0).double()
        for found, guess in ((losses[i], predicted[5 * i : 5 * i + 5]), (powers[i], torch.zeros_like(target))):
            error = (guess - target).square().mean((1, 2, 3)) * weights
            assert found.item() == pytest.approx((error[:3].mean() + 0.3 * error[3:].mean()).item(), rel=1e-5)


@pytest.mark.parametrize("prior", ["teacher", "images"])
@pytest.mark.parametrize("cut", [[[0, 2, 4], [1, 3]], [[0, 1, 2], [3, 4]], [[0, 3], [1, 2, 4]]])
def test_the_parts_of_a_draw_that_workers_take_add_up_to_the_whole(prior: str, cut: list[list[int]]) -> None:
    """Own samples are 0 to 2, the prior's 3 and 4; the second cut gives all own samples to one worker."""
    config = changed(PLAIN, prior=prior, prior_batch_size=2, prior_weight=0.3)
    draw, generator = sampler_of(config, spread=0.1)(0), torch.Generator().manual_seed(0)
    predicted = torch.randn(5, *SHAPE, generator=generator, dtype=torch.float64)
    teacher = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64) if prior == "teacher" else None
    losses, powers = batch_of(config, [draw]).losses(predicted, teacher)
    total, power = torch.zeros(1), torch.zeros(1)
    for part in cut:
        part_of_draw = Draw(draw.clean[part], draw.noise[part], draw.levels[part])
        batch = batch_of(config, [part_of_draw], own=sum(i < 3 for i in part), totals=(3, 2))
        taught = None if teacher is None else teacher[[i - 3 for i in part if i >= 3]]
        found, found_power = batch.losses(predicted[part], taught)
        total, power = total + found, power + found_power
    assert total.item() == pytest.approx(losses.item(), rel=1e-12)
    assert power.item() == pytest.approx(powers.item(), rel=1e-12)


def test_a_broken_adapter_breaks_no_other_loss() -> None:
    draws = [sampler_of(seed=seed, spread=0.1)(0) for seed in range(3)]
    whole, _ = batch_of(PLAIN, draws).losses(torch.ones(18, *SHAPE), torch.ones(9, *SHAPE))
    draws[1] = replace(draws[1], clean=draws[1].clean * float("inf"), noise=draws[1].noise * float("nan"))
    found, _ = batch_of(PLAIN, draws).losses(torch.ones(18, *SHAPE), torch.ones(9, *SHAPE))
    assert torch.isnan(found[1]) and torch.equal(found[[0, 2]], whole[[0, 2]])


# Six images of the first kind, one of the second, three of the third.
KINDS = Kinds(("one", "two", "three"), (0, 2, 0, 1, 0, 2, 0, 0, 2, 0), 0.25)


def test_a_shared_adapter_sees_all_kinds_equally_often_and_each_kinds_images_too() -> None:
    sampler = Sampler(numbered(10), 3, PLAIN, noise_of(), KINDS)
    images = [image for step in range(60) for image in images_of(sampler(step), PLAIN)]
    assert len(images) == 180 and Counter(KINDS.of_image[i] for i in images) == dict.fromkeys(range(3), 60)
    # In passes: no image of a kind comes again before the others have come.
    assert Counter(images) == {i: 60 // KINDS.of_image.count(KINDS.of_image[i]) for i in range(10)}
    # In no fixed order of kinds.
    assert len({tuple(KINDS.of_image[i] for i in images[k : k + 3]) for k in range(0, 180, 3)}) == 6


def test_each_sample_has_the_text_of_its_image_or_now_and_then_none() -> None:
    sampler = Sampler(numbered(10), 3, PLAIN, noise_of(), KINDS)
    texts, own = [], []
    for step in range(400):
        draw = sampler(step)
        assert draw.texts is not None
        texts += draw.texts.tolist()
        own += [KINDS.of_image[i] for i in images_of(draw, PLAIN)]
    assert {t for t, o in zip(texts, own, strict=True) if t != o} == {len(KINDS.prompts)}
    assert texts.count(3) / len(texts) == pytest.approx(0.25, abs=0.04)


def test_the_draws_of_a_shared_adapter_depend_on_the_step_alone() -> None:
    expected = [Sampler(numbered(10, 0.1), 3, PLAIN, noise_of(), KINDS)(step) for step in range(6)]
    mixed = Sampler(numbered(10, 0.1), 3, PLAIN, noise_of(), KINDS)
    for step in (5, 0, 3, 1, 5, 2, 4):
        draw = mixed(step)
        assert equal(draw, expected[step]) and draw.texts is not None and expected[step].texts is not None
        assert torch.equal(draw.texts, expected[step].texts)


def test_a_batch_gives_every_sample_the_text_that_its_draw_names() -> None:
    draw = Sampler(numbered(10), 3, PLAIN, noise_of(), KINDS)(0)
    texts_14TW = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 5, 2)
    batch = Batch(noise_of(), PLAIN, [draw], {"text": texts_14TW}, PLAIN.batch_size, torch.float32)
    assert draw.texts is not None and batch.conditions["text"][:, 0, 0].tolist() == [float(i) for i in draw.texts]
