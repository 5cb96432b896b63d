"""Stable Diffusion XL's UNet layers by the names of the code that it was made with (Stability AI's sgm), which kohya's
scripts train and read.

That code counts blocks from the first to the last; diffusers counts levels, and what they hold. The shape of the UNet,
which is XL's alone: arXiv 2307.01952, section 2.1.
"""

from __future__ import annotations

from functools import cache

# Levels, and layers in each: one more on the way up, where a level also takes in what went into it on the way down.
_LEVELS, _DOWN, _UP = 3, 2, 3
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_IN_RESNETS = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def sgm_name(layer: str) -> str | None:
    """The name of a layer that diffusers calls ``layer``; None if XL's UNet has none of that name."""
    if layer in _OUTSIDE:
        return _OUTSIDE[layer]
    *block, inside = layer.split(".", 3 if layer.startswith("mid_block.") else 4)
    found, named = _blocks().get(".".join(block)), inside
    if "resnets" in block:
        named = _IN_RESNETS.get(inside, "")
    elif "downsamplers" in block:
        named = "op"
    return f"{found}.{named}" if found and named else None


@cache
def _blocks() -> dict[str, str]:
    """What the levels hold, by diffusers' names."""
    middle = {"resnets.0": 0, "attentions.0": 1, "resnets.1": 2}
    found = {f"mid_block.{name}": f"middle_block.{place}" for name, place in middle.items()}
    for level in range(_LEVELS):
        found |= _layers(f"down_blocks.{level}", "input_blocks", 1 + level * (_DOWN + 1), _DOWN, attention=level > 0)
        found |= _layers(f"up_blocks.{level}", "output_blocks", level * _UP, _UP, attention=level < _LEVELS - 1)
        if level < _LEVELS - 1:
            found[f"down_blocks.{level}.downsamplers.0"] = f"input_blocks.{(level + 1) * (_DOWN + 1)}.0"
            found[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{level * _UP + _UP - 1}.2"
    return found


def _layers(level: str, blocks: str, first: int, count: int, attention: bool) -> dict[str, str]:
    """The layers of a level on one of the ways; its blocks begin with the ``first``."""
    kinds = ("resnets", "attentions") if attention else ("resnets",)
    return {
        f"{level}.{kind}.{place}": f"{blocks}.{first + place}.{part}"
        for place in range(count)
        for part, kind in enumerate(kinds)
    }
