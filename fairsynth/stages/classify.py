"""Stage 6, classify: train a classifier by one method and setting, choosing the epoch by validation WGA.

``fairsynth``: stage 1 on balanced synthetic images with b CE + (1 - b) SupCon, stage 2 with the
encoder frozen, the linear layer alone, cross-entropy on the biased real images (arXiv 2511.08711;
with frozen features SupCon has nothing left to train). ``erm`` and ``group-dro``: one stage on real images.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairsynth.config import ClassifyConfig
from fairsynth.models.classifier import Classifier, build_classifier
from fairsynth.models.device import pick_device
from fairsynth.stages.losses import GroupDRO, supcon

# Mean and deviation of ImageNet, which transformers' ResNets were trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Images:
    """Images uint8 (N, S, S, 3) with label and group indices int64 (N,); g = y * n_attributes + a."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """What a classifier is trained and chosen on: never the test split."""

    train: Images
    validation: Images
    synthetic: Images
    n_labels: int
    n_groups: int


@dataclass(frozen=True)
class Epoch:
    """Result of one epoch: validation WGA and mean accuracy; only ``selectable`` epochs may be chosen."""

    number: int
    stage: int
    loss: float
    worst_group_accuracy: float
    accuracy: float
    selectable: bool


class Training:
    """One training run. Iterate over ``epochs``; ``model`` then holds the best selectable epoch."""

    def __init__(
        self, method: str, setting: Mapping[str, float], data: Data, config: ClassifyConfig, seed: int
    ) -> None:
        self.method, self.setting, self.data, self.config = method, setting, data, config
        self.device = pick_device()
        self.model: Classifier = build_classifier(config, data.n_labels, seed).to(self.device)
        self.rng = torch.Generator().manual_seed(seed + 1)
        self.best: Epoch | None = None
        self._best_state: dict[str, Tensor] = {}

    def epochs(self) -> Iterator[Epoch]:
        """Train; yields after each epoch. Afterwards the best state is loaded."""
        if self.method == "fairsynth":
            yield from self._encoder_epochs(self.data.synthetic, 1, selectable=False)
            yield from self._head_epochs(first=int(self.setting["epochs"]))
        else:
            yield from self._encoder_epochs(self.data.train, 1, selectable=True)
        self.model.load_state_dict(self._best_state)
        self.model.eval()

    def _encoder_epochs(self, images: Images, stage: int, selectable: bool) -> Iterator[Epoch]:
        setting = self.setting
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=setting["learning_rate"], weight_decay=setting["weight_decay"]
        )
        dro = GroupDRO(self.data.n_groups, setting["step_size"]) if self.method == "group-dro" else None
        for number in range(int(setting["epochs"])):
            self.model.train()
            losses = []
            for index in self._batches(images, balanced=dro is not None):
                features = self.model.features(self._tensor(images.pixels[index], augment=True))
                labels = torch.from_numpy(images.labels[index]).to(self.device)
                loss = self._loss(features, labels, torch.from_numpy(images.groups[index]).to(self.device), dro)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            yield self._judge(number, stage, float(np.mean(losses)), selectable)

    def _loss(self, features: Tensor, labels: Tensor, groups: Tensor, dro: GroupDRO | None) -> Tensor:
        ce = torch.nn.functional.cross_entropy(self.model.head(features), labels, reduction="none")
        if dro is not None:
            return dro(ce, groups)
        if self.method != "fairsynth":
            return ce.mean()
        beta = self.setting["beta"]
        return beta * ce.mean() + (1 - beta) * supcon(features, labels, self.setting["temperature"])

    def _head_epochs(self, first: int) -> Iterator[Epoch]:
        """Stage 2 on features computed once: the frozen encoder gives the same ones every epoch."""
        self.model.eval()
        features, labels = self._features(self.data.train), torch.from_numpy(self.data.train.labels).to(self.device)
        optimizer = torch.optim.AdamW(
            self.model.head.parameters(),
            lr=self.setting["head_learning_rate"],
            weight_decay=self.setting["head_weight_decay"],
        )
        for number in range(self.config.finetune_epochs):
            losses = []
            for index in self._batches(self.data.train, balanced=False):
                loss = torch.nn.functional.cross_entropy(self.model.head(features[index]), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            yield self._judge(first + number, 2, float(np.mean(losses)), True)

    def _batches(self, images: Images, balanced: bool) -> Iterator[NDArray[np.int64]]:
        """Shuffled index batches of one epoch; ``balanced``: drawn with replacement, every group equally often."""
        if balanced:
            weights = 1 / np.bincount(images.groups, minlength=self.data.n_groups).clip(1)
            order = torch.multinomial(
                torch.from_numpy(weights[images.groups]), len(images), True, generator=self.rng
            ).numpy()
        else:
            order = torch.randperm(len(images), generator=self.rng).numpy()
        for start in range(0, len(order), self.config.batch_size):
            batch = order[start : start + self.config.batch_size]
            # Batch norm cannot learn from a single image.
            if len(batch) > 1 or len(order) == 1:
                yield batch

    def _tensor(self, pixels_NHW3: NDArray[np.uint8], augment: bool) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(pixels_NHW3)).permute(0, 3, 1, 2).to(self.device).float() / 255
        if augment and self.config.augment:
            images = _shift(images, self.rng)
            if self.config.flip:
                mirrored = (torch.rand(len(images), generator=self.rng) < 0.5).to(self.device)
                images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (_MEAN, _STD))
        return (images - mean) / std

    @torch.no_grad()
    def _features(self, images: Images) -> Tensor:
        chunks = np.array_split(np.arange(len(images)), max(1, -(-len(images) // 256)))
        return torch.cat([self.model.features(self._tensor(images.pixels[chunk], augment=False)) for chunk in chunks])

    @torch.no_grad()
    def probabilities(self, images: Images) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, labels)."""
        self.model.eval()
        return self.model.head(self._features(images)).softmax(1).cpu().numpy()  # type: ignore[no-any-return]

    def _judge(self, number: int, stage: int, loss: float, selectable: bool) -> Epoch:
        right = self.probabilities(self.data.validation).argmax(1) == self.data.validation.labels
        groups = self.data.validation.groups
        worst = min(float(right[groups == g].mean()) for g in np.unique(groups))
        epoch = Epoch(number, stage, loss, worst, float(right.mean()), selectable)
        if selectable and (
            self.best is None or (worst, epoch.accuracy) > (self.best.worst_group_accuracy, self.best.accuracy)
        ):
            self.best, self._best_state = epoch, copy.deepcopy(self.model.state_dict())
        return epoch


def _shift(images_N3HW: Tensor, rng: torch.Generator) -> Tensor:
    """Move each image by up to a sixteenth of its side, repeating the border."""
    n, _, height, width = images_N3HW.shape
    most = max(1, height // 16)
    offsets = torch.randint(-most, most + 1, (2, n, 1), generator=rng).to(images_N3HW.device)
    rows = (torch.arange(height, device=images_N3HW.device) + offsets[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images_N3HW.device) + offsets[1]).clamp(0, width - 1)
    return images_N3HW[
        torch.arange(n, device=images_N3HW.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]
    ].permute(0, 3, 1, 2)
