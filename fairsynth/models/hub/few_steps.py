"""A few-step sampler that a config names: an adapter distilled for it (LCM-LoRA, arXiv 2311.05556), before its weights are read.

Nothing here needs torch: commands refuse what cannot work before anything is trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fairsynth.config import RunConfig, SynthesizeConfig
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.models.families.family import Family
from fairsynth.models.hub.at_hand import cached
from fairsynth.models.hub.recognise import recognised
from fairsynth.run_folder.weights import check_header

KEY = "synthesize.few_steps"
WEIGHTS = "pytorch_lora_weights.safetensors"
SCHEDULER = "lcm"
# Such samplers are made for one to eight steps; guidance is in them, and more than a little of it on top burns images out.
MOST_STEPS, MOST_GUIDANCE = 8, 2.0
# What a config that names one has of settings that it leaves open.
OPEN: Mapping[str, Mapping[str, Any]] = {
    "synthesize": {"scheduler": SCHEDULER, "steps": 4, "guidance": 1.0},
    "shared": {"guidance": 1.0},
}
_PARTS = {
    ".lora_A.weight": "down", ".lora_B.weight": "up", ".lora.down.weight": "down", ".lora.up.weight": "up",
    ".lora_down.weight": "down", ".lora_up.weight": "up", ".alpha": "alpha",
}  # fmt: skip
_PREFIXES = ("unet.", "base_model.model.")
_ADVICE = "give a LoRA of the UNet alone, as latent-consistency/lcm-lora-sdv1-5 is, or leave the setting out"


def identity(config: SynthesizeConfig) -> str:
    """Which version of it a result depends on; empty without one."""
    if config.few_steps is None:
        return ""
    if not Path(config.few_steps).expanduser().exists():
        return f"{config.few_steps}@{config.few_steps_revision or 'main'}"
    return _hash(str(file_at_hand(config.few_steps, None)))


@cache
def _hash(file: str) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def file_at_hand(name: str, version: str | None) -> Path | None:
    """Its file, in its folder or in the hub's cache; None where a hub's is not there yet. Raises ConfigError if there is none."""
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" and path.is_file():
        return path
    if path.is_dir():
        if not (path / WEIGHTS).is_file():
            raise ConfigError(f"{KEY}: folder {str(path)!r} has no {WEIGHTS}; give the .safetensors file itself")
        return path / WEIGHTS
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or path.suffix == ".safetensors":
        raise ConfigError(
            f"{KEY}: there is no file {printable(name)!r}; give a .safetensors file, a folder with {WEIGHTS}, or a hub id"
        )
    return cached(name, WEIGHTS, version)


def fetched_file(name: str, version: str | None) -> Path:
    """The same; a hub's is fetched. Raises ConfigError if it cannot be had."""
    known = file_at_hand(name, version)
    if known is not None:
        return known
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, WEIGHTS, revision=version))
    except Exception as error:  # whatever the hub and the network do
        why = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{KEY}: {WEIGHTS} of {printable(name)!r} cannot be had ({printable(why)}); fetch it before: hf download {printable(name)}"
        ) from error


def layers_of(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The tensors of a file by layer and part: ``down``, ``up``, perhaps ``alpha``. Layers are named as the file names them.

    Known are the names of peft, of diffusers and of kohya's scripts. Raises ConfigError for others, and for half a layer.
    """
    found: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        ending = next((ending for ending in _PARTS if name.endswith(ending)), None)
        if ending is None or name.startswith(("text_encoder", "lora_te")):
            raise ConfigError(
                f"{KEY}: the file has {printable(name[:100])!r}, which is no weight of a UNet's LoRA; {_ADVICE}"
            )
        layer = name.removesuffix(ending)
        for prefix in _PREFIXES:
            layer = layer.removeprefix(prefix)
        found.setdefault(layer, {})[_PARTS[ending]] = name
    halves = [layer for layer, parts in found.items() if not parts.keys() >= {"down", "up"}]
    if halves or not found:
        what = f"has only half of {printable(halves[0][:100])!r}" if halves else "is empty"
        raise ConfigError(f"{KEY}: the file {what}; {_ADVICE}")
    return found


def check_few_steps(config: RunConfig) -> None:
    """Raise ConfigError for a few-step sampler that is not there, or does not go with the base model or other settings.

    Of a hub id the file is looked at if the cache has it; the worker that loads it looks at it in any case.
    """
    if config.synthesize.few_steps is None:
        return
    try:
        base = recognised(config.models)
    except OSError:
        return  # whoever loads the base model says so
    _check_family(base.family)
    _check_settings(config)
    file = file_at_hand(config.synthesize.few_steps, config.synthesize.few_steps_revision)
    if file is not None:
        _check_file(file, base.network)


def _check_family(family: Family) -> None:
    if SCHEDULER not in family.schedulers:
        raise ConfigError(
            f"{KEY} is not for {family.title}, whose noise is another; leave it out, or choose another base model"
        )


def _check_settings(config: RunConfig) -> None:
    how, tuned = config.synthesize, config.finetune
    if tuned.parameters == "full" and tuned.generator != "vanilla":
        raise ConfigError(
            f"{KEY} is for adapters, but finetune.parameters is full; set --finetune.parameters adapter, or leave it out"
        )
    if tuned.prior == "images" and tuned.prior_size:
        raise ConfigError(
            f"{KEY}: images of the prior are made without it, in as many steps; set --finetune.prior teacher, or leave it out"
        )
    if how.steps > MOST_STEPS:
        raise ConfigError(
            f"synthesize.steps is {how.steps}, but {KEY} is for 1 to {MOST_STEPS}: set --synthesize.steps 4"
        )
    strengths = {
        "synthesize.guidance": how.guidance,
        "synthesize.borrow_guidance": how.borrow_guidance or 1.0,
        "shared.guidance": config.shared.guidance if config.shared.use else 1.0,
    }
    for setting, value in strengths.items():
        if value > MOST_GUIDANCE:
            raise ConfigError(
                f"{setting} is {value:g}, but with {KEY}, which has guidance in itself, it is at most {MOST_GUIDANCE:g}: "
                f"set --{setting} 1"
            )


def _check_file(file: Path, network: Mapping[str, Any]) -> None:
    """Raise ConfigError for a file that is no LoRA, or one of a UNet that reads other texts."""
    from safetensors import safe_open

    try:
        check_header(file)
        with safe_open(file, "np") as weights:
            shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{KEY}: {str(file)!r} is no safetensors file ({printable(str(error)[:200])}); {_ADVICE}"
        ) from error
    width = network.get("cross_attention_dim")
    for layer, parts in layers_of(shapes).items():
        reads = shapes[parts["down"]][1:2]
        if layer.replace("_", ".").endswith("attn2.to.k") and isinstance(width, int) and reads != [width]:
            raise ConfigError(
                f"{KEY}: {str(file)!r} is of a UNet that reads texts of width {reads[0] if reads else 0}; that of "
                f"models.diffusion reads {width}: give one that was distilled for this base model"
            )
