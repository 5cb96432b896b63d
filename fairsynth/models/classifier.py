"""The classifier: a transformers ResNet encoder and a linear layer."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from fairsynth.config import ClassifyConfig
from fairsynth.models.device import has_half_precision
from fairsynth.models.hub.foreign import require_safe
from fairsynth.models.sources import SMALL, check_whole


class Classifier(nn.Module):
    """Encoder, pooled features, linear layer."""

    def __init__(self, encoder: ResNetModel, n_labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_sizes[-1], n_labels)

    def features(self, images_N3HW: Tensor) -> Tensor:
        """Pooled features, float32 (N, D); on a suitable GPU the encoder computes in bfloat16 where that is safe."""
        device = images_N3HW.device
        with torch.autocast(device.type, torch.bfloat16, enabled=has_half_precision(device)):
            maps = self.encoder(pixel_values=images_N3HW).last_hidden_state
        return self.encoder.pooler(maps.float()).flatten(1)  # type: ignore[no-any-return]

    def forward(self, images_N3HW: Tensor) -> Tensor:
        """Logits (N, labels)."""
        return self.head(self.features(images_N3HW))  # type: ignore[no-any-return]


def build_classifier(config: ClassifyConfig, n_labels: int, seed: int) -> Classifier:
    """The configured backbone with a new linear layer; random weights come from ``seed``."""
    if config.backbone != SMALL:
        require_safe("classify.backbone", config.backbone, config.backbone_revision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.backbone == SMALL:
            encoder = ResNetModel(
                ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 96], depths=[1, 1, 1], layer_type="basic")
            )
        else:
            encoder, told = ResNetModel.from_pretrained(
                config.backbone, revision=config.backbone_revision, use_safetensors=True, output_loading_info=True
            )
            check_whole(config.backbone, told["missing_keys"])
        return Classifier(encoder, n_labels)


def save_classifier(model: Classifier, folder: Path) -> None:
    """Write the encoder in save_pretrained layout and the linear layer beside it (safetensors)."""
    model.encoder.save_pretrained(folder / "encoder")
    save_file(
        {"weight": model.head.weight.detach().cpu().clone(), "bias": model.head.bias.detach().cpu().clone()},
        folder / "head.safetensors",
    )
