"""Where there is a GPU: training, images and classifiers are there what they are on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fairsynth.classify import training as classify
from fairsynth.classify.training import Training, saved_epochs
from fairsynth.models import diffusion
from fairsynth.models.compiled import Compiled
from fairsynth.models.image_maker import ImageMaker
from fairsynth.models.schedule import Sampling
from fairsynth.stages.finetune.lot_state import LotState
from tests.support.lots import VALIDATING, furthest_apart, jobs, tiny_unet, train, trainer_of
from tests.support.lots import run as run_lot
from tests.support.models.making_images import MODELS, row, write_adapters
from tests.support.training import CONFIG, SETTING, data, validated

__all__ = ["data"]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Products of float32 as exact as on a CPU."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_a_lot_of_adapters_becomes_the_same() -> None:
    work = jobs([7, 3, 6, 5])
    expected = train(tiny_unet(torch.float64), work, VALIDATING, 3)
    found = train(tiny_unet(torch.float64).to("cuda"), work, VALIDATING, 3)
    # The UNet's timestep embeddings are float32 even so.
    assert furthest_apart(found, expected) <= 1e-6
    assert [t.progress.best_step for t in found.values()] == [t.progress.best_step for t in expected.values()]


def test_a_lot_that_goes_on_from_a_checkpoint_becomes_the_same() -> None:
    work, config, states = jobs([7, 3, 6, 5]), VALIDATING.model_copy(update={"checkpoint_every": 2}), list[LotState]()
    whole = train(tiny_unet(torch.float64).to("cuda"), work, config, 3, checkpoint=states.append)
    resumed = train(tiny_unet(torch.float64).to("cuda"), work, config, 3, resume=states[2])
    assert states[2].rows and resumed
    assert furthest_apart(resumed, {name: whole[name] for name in resumed}) <= 1e-9


@pytest.mark.parametrize("graphs", [False, True])
def test_a_lot_on_a_compiled_network_becomes_the_same(graphs: bool) -> None:
    work = jobs([12, 3, 6, 5, 9])
    expected = train(tiny_unet(), work, VALIDATING, 3)
    unet = tiny_unet().to("cuda")
    compiled = Compiled(unet, dynamic=False, mode="reduce-overhead" if graphs else None)
    found = run_lot(trainer_of(unet, work, VALIDATING, 3, compiled=compiled, rows=3), work)
    assert not compiled.why and furthest_apart(found, expected) <= 1e-3


@pytest.mark.parametrize(
    ("compiling", "graphs"), [("auto", True), ("blocks", False), ("blocks", True), ("never", False)]
)
def test_images_are_the_same_however_the_network_is_compiled(tmp_path: Path, compiling: str, graphs: bool) -> None:
    adapters, rows = write_adapters(tmp_path, ["a"]), [row("a", seed) for seed in range(4)]
    expected = ImageMaker(MODELS, Sampling(4), adapters)(rows).astype(int)
    apart = np.abs(ImageMaker(MODELS, Sampling(4), adapters, (), None, compiling, graphs)(rows) - expected)
    assert (apart <= 1).mean() > 0.999 and apart.max() <= 4


def test_images_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged weights are compiled there, stacked ones are not; to 1/255 but for single pixels."""
    adapters, sampling = write_adapters(tmp_path, ["a", "b"]), Sampling(4)
    merged = [row("a", seed) for seed in range(4)]
    stacked = [row(name, seed) for name in "ab" for seed in range(2)]
    there = ImageMaker(MODELS, sampling, adapters)
    assert there.pipeline.device.type == "cuda"
    found = [there(merged), there(stacked), there([row(None, 5)] * 2), there([row("b", 1)])]
    monkeypatch.setattr(diffusion, "pick_device", lambda: "cpu")
    here = ImageMaker(MODELS, sampling, adapters)
    expected = [here(merged), here(stacked), here([row(None, 5)] * 2), here([row("b", 1)])]
    for ours, theirs in zip(found, expected, strict=True):
        apart = np.abs(ours.astype(int) - theirs.astype(int))
        assert (apart <= 1).mean() > 0.999 and apart.max() <= 4


@pytest.mark.parametrize("method", ["erm", "group-dro", "lff", "lisa", "dfr", "afr", "fairsynth"])
def test_a_classifier_learns_as_well(data: classify.Data, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its encoder computes in half precision there, so the same accuracy is meant, not the same numbers."""

    def accuracy() -> float:
        runs = [Training(method, SETTING | {"epochs": 8}, data, CONFIG, seed) for seed in range(3)]
        for run in runs:
            list(run.epochs())
            assert next(run.model.parameters()).device.type == run.device == classify.pick_device()
        return float(np.mean([validated(run, data)[1] for run in runs]))

    found = accuracy()
    monkeypatch.setattr(classify, "pick_device", lambda: "cpu")
    assert abs(found - accuracy()) <= 0.1 and found > 0.7


def test_a_classifier_goes_on_from_a_checkpoint(data: classify.Data, tmp_path: Path) -> None:
    whole = Training("fairsynth", SETTING, data, CONFIG, 3)
    expected = list(whole.epochs())
    broken = Training("fairsynth", SETTING, data, CONFIG, 3)
    for count, _ in enumerate(saved_epochs(broken, tmp_path / "state", 0.0)):
        if count == 3:
            break
    assert Training("fairsynth", SETTING, data, CONFIG, 3).restore(tmp_path / "state")
    resumed = Training("fairsynth", SETTING, data, CONFIG, 3)
    found = list(saved_epochs(resumed, tmp_path / "state", 0.0))
    assert len(found) == len(expected)
    assert [e.loss for e in found] == pytest.approx([e.loss for e in expected], rel=0.05)
