"""A run's folder with a classifier of random weights, and what its network says of the images beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fairsynth.classify.images import normalised, to_tensor
from fairsynth.config import ClassifyConfig
from fairsynth.data.decode import decode
from fairsynth.exports.classifier import write_classifier
from fairsynth.models.classifier import build_classifier, save_classifier
from tests.support.data.dataset_files import put
from tests.support.datasets import encoded, picture

SIDE = 32


def put_run(root: Path, labels: Sequence[str], n: int = 7) -> Path:
    """``classifier/``, whose running means are not the first ones, ``images/a/0.png`` and on, ``expected.npy``."""
    model = build_classifier(ClassifyConfig(backbone="small"), len(labels), 3)
    torch.manual_seed(0)
    for _ in range(3):
        model.train()(torch.randn(8, 3, SIDE, SIDE) * 2 + 1)
    save_classifier(model, root / "unit")
    write_classifier(root / "unit", root / "classifier", labels, SIDE)
    images = [encoded(picture(number % 2, number // 2 % 2, number, side=48)) for number in range(n)]
    for number, content in enumerate(images):
        put(root / "images" / f"a/{number}.png", content)
    pixels = np.stack([decode(content, SIDE) for content in images])
    with torch.inference_mode():
        expected = model.eval()(normalised(to_tensor(pixels, "cpu"))).softmax(1).numpy()
    np.save(root / "expected.npy", expected)
    return root


def expected_of(run: Path) -> np.ndarray:
    """What the trained network itself says of the images, in the order of their names."""
    return np.load(run / "expected.npy")
