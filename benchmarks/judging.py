"""Judges of images of the demo and the like: small classifiers of label and attribute, trained on real images without bias.

A library: what scripts that judge synthetic images share; they run nothing of it by itself.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from fairsynth.config import ClassifyConfig
from fairsynth.demo import dataset
from fairsynth.groups import Group
from fairsynth.models.classifier import SMALL, Classifier, build_classifier

Row = dict[str, Any]


class Judged(NamedTuple):
    """Whether label and attribute of images are as they should be, bool (N,) each."""

    label: NDArray[np.bool_]
    attribute: NDArray[np.bool_]

    @property
    def both(self) -> NDArray[np.bool_]:
        """Whether an image shows its group."""
        return self.label & self.attribute

    def shares(self) -> dict[str, float]:
        """Shares of images whose label, attribute and both are as they should be."""
        return {name: float(getattr(self, name).mean()) for name in ("label", "attribute", "both")}


class Pictures(NamedTuple):
    """Real images, uint8 (N, S, S, 3), and what each shows."""

    pixels: NDArray[np.uint8]
    groups: list[Group]


class Judges:
    """A small ResNet for the label and one for the attribute.

    They learn from ``known``, in which every group is as frequent; ``right`` says how often each is right on ``unseen``.
    """

    def __init__(self, known: Pictures, unseen: Pictures, epochs: int = 40) -> None:
        self.names = [sorted({group[part] for group in known.groups}) for part in (0, 1)]
        pairs = zip(self._classes(known.groups), self.names, strict=True)
        self.models = [
            _train(_tensor(known.pixels), torch.from_numpy(classes), len(names), seed, epochs)
            for seed, (classes, names) in enumerate(pairs, 1)
        ]
        found = self(unseen.pixels, unseen.groups)
        self.right = {"label": float(found.label.mean()), "attribute": float(found.attribute.mean())}

    def __call__(self, pixels_NHW3: NDArray[np.uint8], groups_N: Sequence[Group]) -> Judged:
        """Compare what the judges see with what the images are said to show."""
        pairs = zip(self.models, self._classes(groups_N), strict=True)
        return Judged(*(_seen(model, pixels_NHW3) == expected for model, expected in pairs))

    def _classes(self, groups_N: Sequence[Group]) -> list[NDArray[np.int64]]:
        return [np.array([names.index(group[part]) for group in groups_N]) for part, names in enumerate(self.names)]


def demo_judges(epochs: int = 40) -> Judges:
    """Judges that learn from the demo's images of every split but test, every digit as often on either background."""
    images = dataset.build(severity=0.5)
    parts = [[image for image in images if (image.split == dataset.TEST) == unseen] for unseen in (False, True)]
    known, unseen = (
        Pictures(np.stack([image.pixels for image in part]), [Group(i.label, i.attribute) for i in part])
        for part in parts
    )
    return Judges(known, unseen, epochs)


def pixels_of(rows: Sequence[Row]) -> NDArray[np.uint8]:
    """Pixels of the files in rows of synthetic images, uint8 (N, 32, 32, 3)."""
    return np.stack([np.asarray(Image.open(io.BytesIO(row["file"])).convert("RGB")) for row in rows])


def groups_of(rows: Sequence[Row]) -> list[Group]:
    """What each of them should show."""
    return [Group(row["label"], row["attribute"]) for row in rows]


def _tensor(pixels_NHW3: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pixels_NHW3).permute(0, 3, 1, 2).float() / 127.5 - 1


def _train(images_N3HW: torch.Tensor, classes_N: torch.Tensor, n_classes: int, seed: int, epochs: int) -> Classifier:
    """Train with random shifts."""
    torch.manual_seed(seed)
    model = build_classifier(ClassifyConfig(backbone=SMALL, image_size=dataset.SIZE), n_classes, seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = epochs * -(-len(images_N3HW) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for part in torch.randperm(len(images_N3HW)).split(64):
            y, x = torch.randint(0, 5, (2,)).tolist()
            padded = functional.pad(images_N3HW[part], (2, 2, 2, 2), "replicate")
            shifted = padded[..., y : y + dataset.SIZE, x : x + dataset.SIZE]
            loss = functional.cross_entropy(model(shifted), classes_N[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def _seen(model: Classifier, pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The class that a judge sees in each image."""
    return torch.cat([model(part).argmax(1) for part in _tensor(pixels_NHW3).split(256)]).numpy()
