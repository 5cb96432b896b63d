"""Training of a whole UNet where memory does not hold a step's batch: in parts whose gradients add up to the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fairsynth.errors import Exhausted
from tests.support.lots import CONFIG, FULL_JOB, VALIDATING, Passes, difference, full_trainer, latents_of

CONFIGS = {
    "teacher": CONFIG.model_copy(update={"batch_size": 3, "prior_batch_size": 2}),
    "images": CONFIG.model_copy(update={"batch_size": 3, "prior_batch_size": 2, "prior": "images"}),
    "validated": VALIDATING.model_copy(update={"batch_size": 3}),
}


# Fault case 44: the GPU's memory runs out.
@pytest.mark.parametrize("limit", [2, 1])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_step_in_parts_gives_the_same_weights(config: Any, limit: int) -> None:
    expected = full_trainer(config).train(FULL_JOB, latents_of(FULL_JOB))
    trainer = full_trainer(config)
    passes = Passes(trainer.network, limit)
    found = trainer.train(FULL_JOB, latents_of(FULL_JOB))
    assert difference(found.weights, expected.weights) <= 1e-10
    assert max(passes.sizes) <= limit and trainer.samples.size == limit
    validated = dict(expected.progress.validation)
    assert dict(found.progress.validation) == pytest.approx(validated, rel=1e-9)
    assert bool(validated) == (config is CONFIGS["validated"])


def test_gradients_that_were_half_added_when_memory_ran_out_do_not_count_twice() -> None:
    expected = full_trainer(CONFIG).train(FULL_JOB, latents_of(FULL_JOB))
    trainer = full_trainer(CONFIG)
    left = 1

    def gone(gradient: torch.Tensor) -> None:
        nonlocal left
        if left:
            left = 0
            raise torch.OutOfMemoryError("pretended")

    # The other layers' gradients are there by then.
    trainer.network.conv_in.weight.requires_grad_(True).register_hook(gone)
    found = trainer.train(FULL_JOB, latents_of(FULL_JOB))
    assert not left and trainer.samples.size == 2
    assert difference(found.weights, expected.weights) <= 1e-10


def test_one_sample_that_does_not_fit_is_an_error_that_names_ways_out() -> None:
    trainer = full_trainer(CONFIG)
    Passes(trainer.network, limit=0)
    with pytest.raises(Exhausted, match=r"one sample of a step that trains all weights: .*finetune.parameters adapter"):
        trainer.train(FULL_JOB, latents_of(FULL_JOB))
