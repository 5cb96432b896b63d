"""Small images of four groups, and training on them by every method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch

from fairsynth.classify import passes
from fairsynth.classify.epoch import Epoch
from fairsynth.classify.images import Data, Images
from fairsynth.classify.methods import TITLES
from fairsynth.classify.policies import PAPERS
from fairsynth.classify.training import Training
from fairsynth.config import ClassifyConfig
from tests.support.datasets import picture

# By the paper's policy.
CONFIG = ClassifyConfig(
    backbone="small", image_size=32, batch_size=16, pretrain_epochs=3, finetune_epochs=3, **PAPERS._asdict()
)
SETTING = {
    "learning_rate": 3e-3, "weight_decay": 1e-3, "step_size": 0.1, "beta": 0.5, "temperature": 0.1,
    "head_learning_rate": 1e-2, "head_weight_decay": 1e-2, "epochs": 3, "adjustment": 1.0,
    "full_learning_rate": 1e-3, "full_weight_decay": 1e-3, "first_share": 0.5, "up_weight": 20.0,
    "within_label": 0.5, "cutmix": 0.0, "gamma": 4.0, "lambda": 0.1,
}  # fmt: skip
# Every method, and fairsynth with each way to use its synthetic images.
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (name, {}) for name in TITLES},
    "full": ("fairsynth", {"stage_2": "full"}),
    "then group-dro": ("fairsynth", {"stage_2": "group-dro"}),
    "then dfr": ("fairsynth", {"stage_2": "dfr"}),
    "mix": ("fairsynth", {"synthetic": "mix", "stage_2": "none"}),
    "mix then dfr": ("fairsynth", {"synthetic": "mix", "stage_2": "dfr"}),
    "fill": ("fairsynth", {"synthetic": "fill", "stage_2": "none"}),
    "learn": ("fairsynth", {"synthetic": "none", "stage_2": "none", "validation": "learn", "augmentation": "strong"}),
    "learn styles": (
        "fairsynth",
        {"synthetic": "none", "stage_2": "none", "validation": "learn", "augmentation": "styles"},
    ),
    "mix and learn": ("fairsynth", {"synthetic": "mix", "stage_2": "none", "validation": "learn"}),
    "real group-dro": ("fairsynth", {"synthetic": "none", "stage_2": "group-dro"}),
    "strong, then dfr": ("fairsynth", {"synthetic": "none", "stage_2": "dfr", "augmentation": "strong"}),
}


def images(sizes: tuple[int, ...], seed: int) -> Images:
    """Label: brightness of the left half; groups g = 2 y + a of the given sizes."""
    groups = np.repeat(np.arange(4), sizes)
    pixels = [np.asarray(picture(int(g) // 2, int(g) % 2, 1000 * seed + i, 32)) for i, g in enumerate(groups)]
    return Images(np.stack(pixels), groups // 2, groups)


@pytest.fixture(scope="module")
def data() -> Iterator[Data]:
    """So few images that an epoch of strong changes would take forty passes: here it takes four, with styles eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "IMAGES_PER_EPOCH", 240)
        patch.setattr(passes, "STYLES_TIMES", 2)
        yield Data(images((24, 4, 8, 24), 0), images((8,) * 4, 1), images((12,) * 4, 2), 2, 4)


def train(data: Data, method: str, seed: int = 0, **changed: float) -> tuple[Training, list[Epoch]]:
    """A finished training run and its epochs."""
    run = Training(method, SETTING | changed, data, CONFIG, seed)
    return run, list(run.epochs())


def validated(run: Training, data: Data) -> tuple[float, float]:
    """Validation WGA and accuracy of the run's model, from its probabilities."""
    right = run.probabilities(data.validation).argmax(1) == data.validation.labels
    return min(right[data.validation.groups == g].mean() for g in range(4)), right.mean()


def state(module: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """A copy of all weights and buffers."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> bool:
    """Bit-identical."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def run_of(data: Data, way: str, seed: int = 7) -> Training:
    """A training run that has not begun."""
    method, how = WAYS[way]
    return Training(method, SETTING, data, CONFIG.model_copy(update=how), seed)


def flipped(given: Images) -> Images:
    """The same images with the other label."""
    return Images(given.pixels, 1 - given.labels, given.groups)
