"""The training of adapters on the demo's real models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fairsynth.adapter_jobs import AdapterJob
from fairsynth.configuration import load_config
from fairsynth.errors import FairsynthError
from fairsynth.groups import Group
from fairsynth.models.diffusion import load_pipeline
from fairsynth.stages.adapter_training import (
    AdapterTrainer,
    Latents,
    Snapshot,
    load_snapshot,
    loss_weights,
    save_snapshot,
)

CONFIG = load_config(
    preset="demo", overrides={"finetune.steps": 6, "finetune.batch_size": 4, "finetune.checkpoint_every": 2}
)


def _job(seed: int = 3, cluster: int = 0, steps: int = 6) -> AdapterJob:
    return AdapterJob(
        Group("low", "flower"),
        cluster,
        ("a", "b", "c"),
        "a photo of a sks low number on a flower",
        "a photo of a low number on a flower",
        seed,
        steps,
    )


def _latents(seed: int = 0, prior: bool = True) -> Latents:
    rng = np.random.default_rng(seed)
    mean, std, class_latents = (rng.standard_normal((3, 4, 8, 8)).astype(np.float32) for _ in range(3))
    return Latents(mean, np.abs(std) * 0.05, class_latents if prior else None)


@pytest.fixture(scope="module")
def trainer() -> AdapterTrainer:
    return AdapterTrainer(load_pipeline(CONFIG.models), CONFIG.finetune)


def _same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_resumed_from_any_checkpoint_equals_uninterrupted(trainer: AdapterTrainer, tmp_path: Path) -> None:
    snapshots: list[Snapshot] = []
    whole = trainer.train(_job(), _latents(), checkpoint=snapshots.append)
    assert [s.step for s in snapshots] == [2, 4]
    for snapshot in snapshots:
        save_snapshot(snapshot, tmp_path / "s.safetensors")
        assert _same(trainer.train(_job(), _latents(), load_snapshot(tmp_path / "s.safetensors")), whole)
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_an_adapter_does_not_depend_on_those_trained_before(trainer: AdapterTrainer) -> None:
    alone = trainer.train(_job(), _latents())
    trainer.train(_job(seed=9, cluster=1), _latents(5))
    assert _same(trainer.train(_job(), _latents()), alone)
    assert not _same(trainer.train(_job(seed=4), _latents()), alone)


def test_training_lowers_the_loss_on_its_images(trainer: AdapterTrainer) -> None:
    from fairsynth.models import adapters

    config = CONFIG.finetune.model_copy(update={"steps": 60, "prior_weight": 0.0, "batch_size": 8})
    longer, latents = AdapterTrainer(trainer.pipeline, config), _latents(prior=False)
    texts = longer._texts(_job(), latents)
    losses = lambda: float(np.mean([longer._loss(_job(seed=99), latents, texts, step).item() for step in range(8)]))  # noqa: E731
    with torch.no_grad():
        before = losses()
    weights = longer.train(_job(steps=60), latents)
    adapters.add_adapter(trainer.pipeline.unet, config.rank, config.alpha, config.target_modules, 0)
    adapters.set_adapter_state(trainer.pipeline.unet, weights)
    with torch.no_grad():
        after = losses()
    adapters.remove_adapter(trainer.pipeline.unet)
    assert after < 0.8 * before


def test_a_loss_that_is_not_finite_names_the_adapter_and_leaves_the_base_clean(trainer: AdapterTrainer) -> None:
    latents = _latents()
    with pytest.raises(FairsynthError, match=r"low--flower--0.*learning_rate"):
        trainer.train(_job(), Latents(latents.mean * np.nan, latents.std, None))
    assert not [name for name, _ in trainer.pipeline.unet.named_parameters() if "lora" in name]


def test_min_snr_weights_agree_with_the_formula(trainer: AdapterTrainer) -> None:
    scheduler = trainer.scheduler
    times = torch.tensor([0, 10, 500, 999])
    snr = scheduler.alphas_cumprod[times] / (1 - scheduler.alphas_cumprod[times])
    assert loss_weights(scheduler, times, 5.0).tolist() == pytest.approx(
        [min(s, 5) / s for s in snr.tolist()], rel=1e-5
    )
    assert loss_weights(scheduler, times, None).tolist() == [1, 1, 1, 1]
