"""Files of trained weights: LoRA adapters and whole networks. Written, read, renamed, and merged into the frozen base.

Adapter files are what ``load_lora_weights`` of the base model's own pipeline reads, with alpha and provenance in the header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fairsynth.errors import ConfigError
from fairsynth.models.families.table import family_named
from fairsynth.run_folder.files import with_usual_mode
from fairsynth.run_folder.weights import check_header

FILE_NAME = "pytorch_lora_weights.safetensors"
FULL_FILE_NAME = "diffusion_pytorch_model.safetensors"
# Where kohya's own scripts (sd-scripts, networks/lora.py) look for layers: in attentions, resnets and samplers, all of
# which lie in blocks. Other readers look everywhere.
_BLOCKS = ("down_blocks", "mid_block", "up_blocks")
# The one entry in the header of our adapters, and of those renamed for kohya. The latter give their alpha otherwise, so
# they must not have the entry that diffusers takes for its own.
_HEADER, _KOHYA_HEADER = "lora_adapter_metadata", "fairsynth"
_PROVENANCE = "fairsynth."


def require_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError if a weight is not finite: such an adapter is never saved."""
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError("the adapter holds NaN or infinite weights; lower its learning rate")


def save_adapter(
    state: Mapping[str, torch.Tensor],
    folder: Path,
    rank: int,
    alpha: int,
    target_modules: Sequence[str],
    provenance: Mapping[str, Any],
    network: str = "unet",
) -> None:
    """Write ``pytorch_lora_weights.safetensors``; the header tells rank, alpha and where the adapter comes from.

    ``state`` has peft's names; ``network``: the part of the pipeline that the adapter is of. Raises ValueError if a weight
    is not finite.
    """
    require_finite(state)
    facts = {"r": rank, "lora_alpha": alpha, "target_modules": sorted(target_modules)}
    header = {f"{network}.{key}": value for key, value in facts.items()}
    # diffusers reads entries that begin with a model's name, and ignores these.
    header |= {f"{_PROVENANCE}{key}": value for key, value in provenance.items()}
    _save({f"{network}.{name}": value for name, value in state.items()}, folder / FILE_NAME, _HEADER, header)


def _save(tensors: Mapping[str, torch.Tensor], path: Path, entry: str, header: Mapping[str, Any]) -> None:
    # One entry only: safetensors writes several in random order, and equal adapters must be equal files.
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        path,
        {entry: json.dumps(dict(header), sort_keys=True)},
    )
    with_usual_mode(path)


def _read_header(path: Path, *entries: str) -> dict[str, Any]:
    """The first of these entries in the file. Raises ValueError if it has none."""
    metadata = check_header(path)
    for entry in entries:
        content = json.loads(metadata[entry]) if entry in metadata else None
        if isinstance(content, dict):
            return content
    raise ValueError(f"{path} is no adapter written by fairsynth")


def read_provenance(path: Path) -> dict[str, Any]:
    """Where an adapter comes from, by the header of its file, in kohya's naming or not.

    Raises ValueError if fairsynth did not write it.
    """
    header = _read_header(path, _HEADER, _KOHYA_HEADER)
    return {key.removeprefix(_PROVENANCE): value for key, value in header.items() if key.startswith(_PROVENANCE)}


def weights_file(folder: Path) -> Path | None:
    """The file of an adapter or of a whole network in a folder; None if neither is there."""
    return next((folder / name for name in (FILE_NAME, FULL_FILE_NAME) if (folder / name).exists()), None)


def load_adapter(path: Path) -> tuple[dict[str, torch.Tensor], float]:
    """Weights by layer, ``{"<module>.down" | "<module>.up": tensor}``, and the scale alpha / rank.

    Raises ValueError if ``save_adapter`` did not write the file.
    """
    state = read_state(path)
    names = {".lora_A.weight": ".down", ".lora_B.weight": ".up"}
    weights = {}
    for key, value in state.weights.items():
        layer, part = key.rsplit(".lora_", 1)
        weights[layer + names[f".lora_{part}"]] = value
    return weights, state.alpha / state.rank


class AdapterState(NamedTuple):
    """An adapter under peft's names, and what ``StackedAdapters`` is built with."""

    weights: dict[str, torch.Tensor]
    rank: int
    alpha: float
    target_modules: tuple[str, ...]


def read_state(path: Path) -> AdapterState:
    """An adapter as ``StackedAdapters.row`` takes it. Raises ValueError if ``save_adapter`` did not write the file."""
    header = _read_header(path, _HEADER)
    network = network_named(header)
    weights = {key.removeprefix(f"{network}."): value for key, value in load_file(path).items()}
    rank, alpha, targets = (header[f"{network}.{key}"] for key in ("r", "lora_alpha", "target_modules"))
    return AdapterState(weights, rank, alpha, tuple(targets))


def network_named(header: Mapping[str, Any]) -> str:
    """The part of a pipeline that an adapter is of, by its file's header. Raises ValueError if that names none."""
    found = [name for name in ("unet", "transformer") if f"{name}.r" in header]
    if len(found) != 1:
        raise ValueError("the header of the adapter names no network that it is of")
    return found[0]


def to_kohya(source: Path, target: Path) -> list[str]:
    """Write an adapter file again in kohya's naming, with alpha as a tensor of every layer.

    Returns those of its layers that kohya's own scripts pass over, sorted: ``conv_in``, ``conv_out`` and those of
    embeddings. Raises ValueError if ``save_adapter`` did not write the source, ConfigError if kohya's format has no names
    for its family of base models.
    """
    header = _read_header(source, _HEADER)
    # Files from before families have no entry: they are of the first one.
    family = family_named(str(header.get(f"{_PROVENANCE}family", "sd")))
    alpha = float(header[f"{network_named(header)}.lora_alpha"])
    tensors, layers = {}, load_adapter(source)[0]
    for key, value in layers.items():
        layer, part = key.rsplit(".", 1)
        name = family.to_kohya(layer)
        if name is None:
            raise ConfigError(
                f"kohya's format has no names for adapters of {family.title}; use the files in the run's adapters/, which "
                "diffusers and ComfyUI read"
            )
        tensors[f"{name}.lora_{part}.weight"] = value
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    provenance = {key: value for key, value in header.items() if key.startswith(_PROVENANCE)}
    _save(tensors, target, _KOHYA_HEADER, provenance)
    return sorted({key.rsplit(".", 1)[0] for key in layers if key.split(".", 1)[0] not in _BLOCKS})


class Part(NamedTuple):
    """A file of trained weights, and the strength of what it adds to the base."""

    path: Path
    strength: float = 1.0


class MergedAdapters:
    """Switches a network between adapters by writing W0 + scale * B A into its weights, or all weights of another one.

    Generation then runs at the base model's speed. The pristine W0 is kept, so switching never drifts.
    """

    def __init__(self, network: nn.Module) -> None:
        self.weights = dict(network.named_parameters())
        self.pristine: dict[str, torch.Tensor] = {}
        self.current: tuple[Part, ...] = ()

    def switch(self, path: Path | None) -> None:
        """Take up the weights in the given file alone, at full strength, or those of the base: ``use`` says more."""
        self.use(*([Part(path)] if path else []))

    @torch.no_grad()
    def use(self, *parts: Part) -> None:
        """Take up the sum of what these files add to the base, each times its strength; none: the base.

        Files that are in use already are not read again. Raises ValueError if one does not fit this network, which is
        then as the base is.
        """
        # The base is restored even if it should be there: not after a file that failed half-way.
        if parts and parts == self.current:
            return
        self.current = ()
        self._restore()
        try:
            for part in parts:
                if part.path.name == FULL_FILE_NAME:
                    self._replace(load_file(part.path), part.strength, alone=len(parts) == 1)
                else:
                    weights, scale = load_adapter(part.path)
                    self._merge(weights, scale * part.strength)
        except ValueError:
            self._restore()
            raise
        self.current = parts

    def _restore(self) -> None:
        for name, weight in self.pristine.items():
            self.weights[name].copy_(weight)

    def _replace(self, weights: Mapping[str, torch.Tensor], strength: float, alone: bool) -> None:
        self._require({name: value.shape for name, value in weights.items()})
        if missing := sorted(self.weights.keys() - weights.keys()):
            raise ValueError(f"the network's weight {missing[0]!r} is not in the file")
        for name, value in weights.items():
            weight = self._kept(name)
            if alone and strength == 1:
                weight.copy_(value)  # to the bit
            else:
                base, value = self.pristine[name].float(), value.to(weight.device, torch.float32)
                weight.copy_(weight.float() + strength * (value - base))

    def _merge(self, layers: Mapping[str, torch.Tensor], scale: float) -> None:
        names = sorted(key.removesuffix(".down") for key in layers if key.endswith(".down"))
        self._require({f"{n}.weight": (len(layers[f"{n}.up"]), *layers[f"{n}.down"].shape[1:]) for n in names})
        for name in names:
            weight = self._kept(f"{name}.weight")
            down, up = (layers[f"{name}.{part}"].to(weight.device, torch.float32).flatten(1) for part in ("down", "up"))
            weight.copy_(weight.float() + (up @ down).view(weight.shape) * scale)

    def _require(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise ValueError unless the network has weights of these names and shapes; nothing has changed yet."""
        for name, shape in shapes.items():
            if name not in self.weights or self.weights[name].shape != shape:
                raise ValueError(f"the network has no weight {name!r} of shape {tuple(shape)}")

    def _kept(self, name: str) -> torch.Tensor:
        """A weight that is about to change; its value is kept."""
        weight = self.weights[name]
        if name not in self.pristine:
            self.pristine[name] = weight.clone()
        return weight
