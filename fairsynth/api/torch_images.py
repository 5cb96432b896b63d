"""A set of images as torch reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset


class TorchImages(Dataset[tuple[Any, int]]):
    """Pairs of an image and the place of its label; see ``ImageSet.as_torch``."""

    def __init__(
        self, images: Sequence[Any], labels: Sequence[str], transform: Callable[[Image.Image], Any] | None = None
    ) -> None:
        self.images, self.labels, self.transform = images, labels, transform or _tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        one = self.images[place]
        return self.transform(one.image), self.labels.index(one.label)


def _tensor(image: Image.Image) -> torch.Tensor:
    """Float (3, H, W) from 0 to 1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
