"""The names of XL's layers for kohya's scripts: as those have them, and each layer its own."""

from __future__ import annotations

import re

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from fairsynth.models.families.sgm_names import sgm_name
from tests.support.models.tiny_sdxl import UNET

# What the scripts' own UNet (library/sdxl_original_unet.py) has in its blocks: a resnet, then a transformer, then what makes
# images larger; what makes them smaller has a block of its own.
RESNET, BOTH = {0}, {0, 1}
BLOCKS = {
    "input_blocks": {1: RESNET, 2: RESNET, 3: {0}, 4: BOTH, 5: BOTH, 6: {0}, 7: BOTH, 8: BOTH},
    "output_blocks": {
        0: BOTH, 1: BOTH, 2: BOTH | {2}, 3: BOTH, 4: BOTH, 5: BOTH | {2}, 6: RESNET, 7: RESNET, 8: RESNET,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("conv_in", "input_blocks.0.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("down_blocks.0.resnets.1.conv1", "input_blocks.2.0.in_layers.2"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        (
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
            "input_blocks.4.1.transformer_blocks.0.attn1.to_q",
        ),
        (
            "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.0.proj",
            "input_blocks.8.1.transformer_blocks.9.ff.net.0.proj",
        ),
        ("mid_block.attentions.0.proj_in", "middle_block.1.proj_in"),
        ("mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers.1"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
        (
            "up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_out.0",
            "output_blocks.5.1.transformer_blocks.1.attn2.to_out.0",
        ),
        ("up_blocks.2.resnets.0.conv_shortcut", "output_blocks.6.0.skip_connection"),
    ],
)
def test_layers_have_the_names_of_the_original_code(layer: str, name: str) -> None:
    assert sgm_name(layer) == name


def test_each_layer_of_the_unet_has_a_name_of_its_own_in_a_block_that_there_is() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
    layers = [name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    names = [sgm_name(layer) for layer in layers]
    assert None not in names and len({*names}) == len(layers) > 150
    blocks: dict[str, dict[int, set[int]]] = {"input_blocks": {}, "output_blocks": {}}
    for name in names:
        if found := re.match(r"(input_blocks|output_blocks)\.(\d+)\.(\d)\.", str(name)):
            blocks[found[1]].setdefault(int(found[2]), set()).add(int(found[3]))
    assert blocks == BLOCKS


@pytest.mark.parametrize(
    "layer",
    [
        "",
        "conv_act",
        "down_blocks.3.resnets.0.conv1",
        "down_blocks.0.attentions.0.proj_in",
        "down_blocks.1.resnets.2.conv1",
        "down_blocks.2.downsamplers.0.conv",
        "mid_block.attentions.1.proj_in",
        "up_blocks.0.resnets.3.conv1",
        "up_blocks.2.upsamplers.0.conv",
        "up_blocks.0.resnets.0.norm1",
    ],
)
def test_a_layer_that_the_model_does_not_have_has_no_name(layer: str) -> None:
    assert sgm_name(layer) is None
