"""What docs/comparing-methods.md says of differences from the authors' code: optimiser, FFR's second stage, SupCon."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fairsynth.classify.images import Data
from fairsynth.classify.losses import supcon
from fairsynth.classify.refits import LINEAR
from fairsynth.classify.training import Training
from tests.support.training import CONFIG, SETTING, WAYS, data, run_of, same, state

__all__ = ["data"]


@pytest.mark.parametrize("way", WAYS)
def test_every_network_is_trained_with_adamw_at_a_constant_rate(data: Data, way: str) -> None:
    run = run_of(data, way)
    for phase in (phase for phase in run.phases if phase.loss not in LINEAR):
        loop = run._entered(phase)
        for _ in range(2):
            run._epoch(loop)
            assert type(loop.optimizer) is torch.optim.AdamW
            assert {group["lr"] for group in loop.optimizer.param_groups} == {phase.learning_rate}


def test_ffrs_second_stage_begins_where_the_first_one_ended(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, plain = list[Any](), Training._entered

    def spy(run: Training, phase: Any) -> Any:
        entered.append(state(run.model))
        return plain(run, phase)

    monkeypatch.setattr(Training, "_entered", spy)
    run = run_of(data, "ffr")
    after, worst = [], []
    for epoch in run.epochs():
        after.append(state(run.model))
        worst.append(epoch.worst_group_accuracy)
    assert len(entered) == 2 and same(entered[1], after[2])
    assert not same(after[1], after[2]), "an earlier epoch would be another start"


def test_supcon_compares_the_features_of_one_view(data: Data) -> None:
    run = Training("fairsynth", SETTING | {"beta": 0.4}, data, CONFIG.model_copy(update={"augment": False}), 3)
    loop, index, encoded = run._entered(run.phases[0]), np.array([0, 5, 14, 30, 31, 47]), list[int]()
    assert run.phases[0].loss == "supcon"
    hook = run.model.encoder.register_forward_pre_hook(
        lambda module, given, named: encoded.append(len(named["pixel_values"])), with_kwargs=True
    )
    run.model.eval()
    with torch.no_grad():
        found = run._batch_loss(loop, index)
        hook.remove()
        features: Tensor = run.model.features(run._seen(loop.images, index))
        labels = torch.from_numpy(loop.images.labels[index])
        ce = torch.nn.functional.cross_entropy(run.model.head(features), labels)
        expected = 0.4 * ce + 0.6 * supcon(features, labels, SETTING["temperature"])
    assert encoded == [6] and found.item() == pytest.approx(expected.item(), rel=1e-5)
