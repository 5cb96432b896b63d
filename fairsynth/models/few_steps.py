"""A few-step sampler becomes part of the base: its distilled adapter is added into the network's weights, for good.

The adapters of clusters are merged or stacked on top of that as on any base, which is what LCM-LoRA (arXiv 2311.05556,
section 3.2) does when it adds both. Needs torch alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn

from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.models.families.family import Family
from fairsynth.models.hub.few_steps import KEY, layers_of
from fairsynth.run_folder.weights import check_header


class Change(NamedTuple):
    """What is added to a layer's weight: ``scale * up down``."""

    weight: torch.Tensor
    down: torch.Tensor
    up: torch.Tensor
    scale: float


@torch.no_grad()
def add_few_steps(network: nn.Module, family: Family, file: Path) -> None:
    """Add the adapter in ``file`` to the network's weights. Raises ConfigError if it is of another network; nothing has changed then."""
    for weight, down, up, scale in _changes(network, family, file):
        change = (up.flatten(1) @ down.flatten(1)).view(weight.shape) * scale
        weight.copy_(weight.float() + change.to(weight.device))


def _changes(network: nn.Module, family: Family, file: Path) -> list[Change]:
    tensors, alpha = load_file(file), _alpha(file)
    layers = _layers(network, family)
    found = []
    for layer, parts in layers_of(tensors).items():
        weight = layers.get(layer)
        down, up = (tensors[parts[part]].float() for part in ("down", "up"))
        if (
            weight is None
            or up.dim() != down.dim()
            or (*up.shape[:1], *down.shape[1:]) != tuple(weight.shape)
            or up.shape[1:2] != down.shape[:1]
        ):
            raise ConfigError(
                f"{KEY}: the network of models.diffusion has no layer {printable(layer[:100])!r} of that shape; give a sampler "
                "that was distilled for this base model"
            )
        strength = tensors[parts["alpha"]].item() if "alpha" in parts else alpha or len(down)
        found.append(Change(weight, down, up, strength / len(down)))
    return found


def _layers(network: nn.Module, family: Family) -> dict[str, torch.Tensor]:
    """The weights that an adapter may change, by every name that a file may have for their layer."""
    known = dict[str, torch.Tensor]()
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            for one in (name, f"lora_unet_{name.replace('.', '_')}", family.to_kohya(name)):
                if one is not None:
                    known[one] = module.weight
    return known


def _alpha(file: Path) -> float | None:
    """The alpha of all layers by the header that diffusers writes; None if it says none: then it is the rank."""
    facts = json.loads(check_header(file).get("lora_adapter_metadata", "{}"))
    if any(facts.get(f"unet.{name}") for name in ("alpha_pattern", "rank_pattern")):
        raise ConfigError(
            f"{KEY}: layers of {str(file)!r} have alphas of their own, which is not supported; give another file"
        )
    alpha = facts.get("unet.lora_alpha")
    return None if alpha is None else float(alpha)
