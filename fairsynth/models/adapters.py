"""Files of trained weights: LoRA adapters and whole UNets. Written, read, renamed, and merged into the frozen base.

Adapter files are what ``StableDiffusionPipeline.load_lora_weights`` reads, with alpha and provenance in the header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

FILE_NAME = "pytorch_lora_weights.safetensors"
FULL_FILE_NAME = "diffusion_pytorch_model.safetensors"
_HEADER, _PROVENANCE = "lora_adapter_metadata", "fairsynth."


def require_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError if a weight is not finite: such an adapter is never saved."""
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError("the adapter holds NaN or infinite weights; lower finetune.learning_rate")


def save_adapter(
    state: Mapping[str, torch.Tensor],
    folder: Path,
    rank: int,
    alpha: int,
    target_modules: Sequence[str],
    provenance: Mapping[str, Any],
) -> None:
    """Write ``pytorch_lora_weights.safetensors``; the header tells rank, alpha and where the adapter comes from.

    ``state`` has peft's names. Raises ValueError if a weight is not finite.
    """
    require_finite(state)
    header = {"unet.r": rank, "unet.lora_alpha": alpha, "unet.target_modules": sorted(target_modules)}
    # diffusers reads what begins with the name of a model, and passes over these.
    header |= {f"{_PROVENANCE}{key}": value for key, value in provenance.items()}
    _save({f"unet.{name}": value for name, value in state.items()}, folder / FILE_NAME, header)


def _save(tensors: Mapping[str, torch.Tensor], path: Path, header: Mapping[str, Any]) -> None:
    # One entry only: safetensors writes several in random order, and equal adapters must be equal files.
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        path,
        {_HEADER: json.dumps(dict(header), sort_keys=True)},
    )


def _read_header(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as handle:
        return json.loads(handle.metadata()[_HEADER])  # type: ignore[no-any-return]


def read_provenance(path: Path) -> dict[str, Any]:
    """Where an adapter comes from, by its file's header."""
    return {key.removeprefix(_PROVENANCE): v for key, v in _read_header(path).items() if key.startswith(_PROVENANCE)}


def weights_file(folder: Path) -> Path | None:
    """The file of an adapter or of a whole UNet in a folder; None if neither is there."""
    return next((folder / name for name in (FILE_NAME, FULL_FILE_NAME) if (folder / name).exists()), None)


def load_adapter(path: Path) -> tuple[dict[str, torch.Tensor], float]:
    """Weights by layer, ``{"<module>.down" | "<module>.up": tensor}``, and the scale alpha / rank."""
    header = _read_header(path)
    names = {".lora_A.weight": ".down", ".lora_B.weight": ".up"}
    weights = {}
    for key, value in load_file(path).items():
        layer, part = key.removeprefix("unet.").rsplit(".lora_", 1)
        weights[layer + names[f".lora_{part}"]] = value
    return weights, header["unet.lora_alpha"] / header["unet.r"]


def to_kohya(source: Path, target: Path) -> None:
    """Write an adapter file again in kohya's naming, with alpha as a tensor of every layer."""
    header = _read_header(source)
    tensors = {}
    for key, value in load_adapter(source)[0].items():
        layer, part = key.rsplit(".", 1)
        name = f"lora_unet_{layer.replace('.', '_')}"
        tensors[f"{name}.lora_{part}.weight"] = value
        tensors[f"{name}.alpha"] = torch.tensor(float(header["unet.lora_alpha"]))
    provenance = {key: value for key, value in header.items() if key.startswith(_PROVENANCE)}
    save_file(tensors, target, {"fairsynth": json.dumps(provenance, sort_keys=True)})


class MergedAdapters:
    """Switches the UNet between adapters by writing W0 + scale * B A into its weights, or all weights of another UNet.

    Generation then runs at the base model's speed. The pristine W0 is kept, so switching never drifts.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.weights = dict(unet.named_parameters())
        self.pristine: dict[str, torch.Tensor] = {}
        self.current: Path | None = None

    @torch.no_grad()
    def switch(self, path: Path | None) -> None:
        """Take up the weights in the given file, of an adapter or of a whole UNet, or those of the base."""
        if path == self.current:
            return
        for name, weight in self.pristine.items():
            self.weights[name].copy_(weight)
        self.current = None
        if path is not None and path.name == FULL_FILE_NAME:
            for name, value in load_file(path).items():
                self._kept(name).copy_(value)
        elif path is not None:
            self._merge(*load_adapter(path))
        self.current = path

    def _kept(self, name: str) -> torch.Tensor:
        """A weight that is about to change; what it was is kept."""
        self.pristine.setdefault(name, self.weights[name].detach().clone())
        return self.weights[name]

    def _merge(self, layers: Mapping[str, torch.Tensor], scale: float) -> None:
        for name in {key.rsplit(".", 1)[0] for key in layers}:
            weight = self._kept(f"{name}.weight")
            down, up = layers[f"{name}.down"].float(), layers[f"{name}.up"].float()
            delta = (up.flatten(1) @ down.flatten(1)).view(weight.shape) * scale
            weight.copy_((weight.float() + delta.to(weight.device)).to(weight.dtype))
