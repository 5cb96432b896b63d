"""LoRA adapters of the UNet: make, save, load, and merge into the frozen weights.

Files are what ``StableDiffusionPipeline.load_lora_weights`` reads, with alpha in the header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file

NAME = "fairsynth_adapter"
FILE_NAME = "pytorch_lora_weights.safetensors"


def add_adapter(
    unet: UNet2DConditionModel, rank: int, alpha: int, target_modules: Sequence[str], seed: int
) -> list[torch.nn.Parameter]:
    """Put a fresh float32 adapter on the UNet's layers and return its parameters.

    A starts Gaussian, B zero. Raises ValueError if no layer's name ends with one of ``target_modules``.
    """
    devices = [unet.device] if unet.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(target_modules)),
            NAME,
        )
    # peft gives adapters the base's number format; training in bfloat16 would lose small updates.
    cast_training_params(unet, dtype=torch.float32)
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def remove_adapter(unet: UNet2DConditionModel) -> None:
    """Take the adapter off again; the base weights are as before."""
    unet.delete_adapters([NAME])


def adapter_state(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """A copy of the adapter's weights in peft's names."""
    state = get_peft_model_state_dict(unet, adapter_name=NAME)
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def set_adapter_state(unet: UNet2DConditionModel, state: Mapping[str, torch.Tensor]) -> None:
    """Write weights into the adapter."""
    set_peft_model_state_dict(unet, dict(state), adapter_name=NAME)


def save_adapter(
    state: Mapping[str, torch.Tensor], folder: Path, rank: int, alpha: int, target_modules: Sequence[str]
) -> None:
    """Write ``pytorch_lora_weights.safetensors`` with rank and alpha in its header.

    Raises ValueError if a weight is not finite: such an adapter is never saved.
    """
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ValueError("the adapter holds NaN or infinite weights; lower finetune.learning_rate")
    header = {"unet.r": rank, "unet.lora_alpha": alpha, "unet.target_modules": sorted(target_modules)}
    tensors = {f"unet.{name}": value.contiguous() for name, value in state.items()}
    # One entry only: safetensors writes several in random order, and equal adapters must be equal files.
    save_file(tensors, folder / FILE_NAME, {"lora_adapter_metadata": json.dumps(header, sort_keys=True)})


def load_adapter(path: Path) -> tuple[dict[str, torch.Tensor], float]:
    """Weights by layer, ``{"<module>.down" | "<module>.up": tensor}``, and the scale alpha / rank."""
    with safe_open(path, "pt") as handle:
        header = json.loads(handle.metadata()["lora_adapter_metadata"])
        weights = {key: handle.get_tensor(key) for key in handle.keys()}
    names = {
        key: key.removeprefix("unet.").removesuffix(".weight").replace(".lora_A", ".down").replace(".lora_B", ".up")
        for key in weights
    }
    return {names[key]: value for key, value in weights.items()}, header["unet.lora_alpha"] / header["unet.r"]


class MergedAdapters:
    """Switches the UNet between adapters by writing W0 + scale * B A into its weights.

    Generation then runs at the base model's speed. The pristine W0 is kept, so switching never drifts.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.modules = dict(unet.named_modules())
        self.pristine: dict[str, torch.Tensor] = {}
        self.current: Path | None = None

    @torch.no_grad()
    def switch(self, path: Path | None) -> None:
        """Merge the adapter in the given file, or none."""
        if path == self.current:
            return
        for name, weight in self.pristine.items():
            self.modules[name].weight.copy_(weight)
        if path is not None:
            self._merge(*load_adapter(path))
        self.current = path

    def _merge(self, layers: Mapping[str, torch.Tensor], scale: float) -> None:
        for name in {key.rsplit(".", 1)[0] for key in layers}:
            weight = self.modules[name].weight
            self.pristine.setdefault(name, weight.detach().clone())
            down, up = layers[f"{name}.down"].float(), layers[f"{name}.up"].float()
            delta = (up.flatten(1) @ down.flatten(1)).view(weight.shape) * scale
            weight.copy_((self.pristine[name].float() + delta.to(weight.device)).to(weight.dtype))
