"""Frozen weights as int8: a byte each, rounded by half a step at most, and trained upon as peft trains upon them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2Transformer2DModel, SD3Transformer2DModel, UNet2DConditionModel, ZImageTransformer2DModel
from torch import nn

from fairsynth.config import ModelsConfig
from fairsynth.models.diffusion import encode_prompts, load_denoiser
from fairsynth.models.families.conditions import Conditions, mapped
from fairsynth.models.families.table import family_of
from fairsynth.models.int8 import Int8Linear, quantise, weight_bytes
from fairsynth.models.stacked import StackedAdapters, gradient, shell
from tests.support.models import tiny_sdxl
from tests.support.models.family_checks import PROMPTS
from tests.support.models.small_networks import ALPHA, RANK, Layers, rows_of, with_peft
from tests.support.models.tiny_flux2 import tiny_flux2
from tests.support.models.tiny_sd3 import tiny_sd3
from tests.support.models.tiny_zimage import tiny_zimage

DOUBLE = torch.float64
# Of each family the published size, or the class's own.
XL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    **{"transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048},
    "use_linear_projection": True,
}


def linear(bias: bool = True, dtype: torch.dtype = DOUBLE) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 7, bias=bias, dtype=dtype).requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, DOUBLE], ids=str)
def test_weights_are_rounded_by_half_a_step_of_their_output_at_most(dtype: torch.dtype) -> None:
    plain = linear(dtype=dtype)
    plain.weight[3] *= 1000
    plain.weight[5] = 0
    rounded = Int8Linear(plain)
    assert rounded.codes.dtype == torch.int8 and rounded.weight.dtype == dtype and rounded.codes.abs().max() == 127
    step = plain.weight.double().abs().amax(1, keepdim=True) / 127
    # Number formats round, too: of bfloat16 256 numbers lie between a power of two and the next.
    slack = plain.weight.double().abs() * torch.finfo(dtype).eps * 2
    assert ((rounded.weight.double() - plain.weight.double()).abs() <= step * 0.505 + slack).all()
    assert not rounded.weight[5].any() and (rounded.weight != plain.weight).any()


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_what_one_with_the_rounded_weights_does(bias: bool) -> None:
    plain = linear(bias)
    rounded = Int8Linear(plain)
    plain.weight.copy_(rounded.weight)
    x = torch.randn(2, 5, 6, dtype=DOUBLE)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = rounded(one), plain(other)
    assert torch.equal(found, expected)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


def test_no_unpacked_weight_waits_for_the_backward_pass() -> None:
    rounded, own, kept = Int8Linear(nn.Linear(256, 256)), set[int](), list[torch.Tensor]()
    own = {parameter.untyped_storage().data_ptr() for parameter in rounded.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        rounded(torch.randn(2, 256, requires_grad=True))
    assert kept and all(tensor.untyped_storage().data_ptr() in own for tensor in kept)


def test_blocks_are_rounded_and_what_is_before_and_after_them_is_not() -> None:
    pipeline = tiny_sd3()
    network = pipeline.transformer
    before = {name: type(module) for name, module in network.named_modules()}
    quantise(network)
    for name, module in network.named_modules():
        inside = name.startswith("transformer_blocks.") and before[name] is nn.Linear
        assert isinstance(module, Int8Linear) == inside, name
    assert network.dtype == torch.float32
    layers = Layers()
    quantise(layers)
    assert not any(isinstance(module, Int8Linear) for module in layers.modules()), "no list, no block"


def test_a_layer_with_two_names_stays_one() -> None:
    shared = nn.Linear(4, 4)
    network = nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)])
    quantise(network)
    assert isinstance(network[0][0], Int8Linear) and network[0][0] is network[1][0]


def test_a_second_instance_of_a_network_shares_the_bytes() -> None:
    network = tiny_sd3().transformer
    quantise(network)
    other = shell(network)
    own = {id(parameter) for parameter in network.parameters()}
    assert other is not network and all(id(parameter) in own for parameter in other.parameters())


def told_of(pipeline: Any, count: int) -> Conditions:
    """What the network is told of an image for each prompt, float64."""
    facts = family_of(pipeline).image_facts(np.full((count, 2), 32), 32)
    told = encode_prompts(pipeline, PROMPTS[:count]) | {name: torch.from_numpy(fact) for name, fact in facts.items()}
    return mapped(lambda value: value.double() if value.is_floating_point() else value, told)


@pytest.mark.parametrize(
    "make", [tiny_sdxl.pipeline, tiny_sd3, tiny_flux2, tiny_zimage], ids=lambda make: make.__module__
)
def test_stacked_adapters_of_a_rounded_network_equal_those_of_peft(make: Callable[[], Any]) -> None:
    pipeline, count = make(), 3
    family, told = family_of(pipeline), told_of(pipeline, count)
    network, shape = family.network_of(pipeline), family.latent_shape(pipeline, 32)
    quantise(network)
    nn.Module.to(network, DOUBLE)
    torch.manual_seed(0)
    sample, times = torch.randn(count, *shape, dtype=DOUBLE), torch.tensor([10.0, 400.0, 990.0], dtype=DOUBLE)
    stack = StackedAdapters(network, RANK, ALPHA, family.targets, family.uneven)
    weights = rows_of(stack, count)
    with stack.using(weights) as leaves:
        found = family.predict(network, sample, times, told)
        gradients = gradient(found.square().flatten(1).mean(1), leaves)
    stack.remove()
    assert any(isinstance(module, Int8Linear) for module in network.modules())
    for n in range(count):
        alone, row = with_peft(network, stack.state(weights[n]), family.targets), slice(n, n + 1)
        theirs = family.predict(alone, sample[row], times[row], mapped(lambda value: value[row], told))  # noqa: B023
        torch.testing.assert_close(found[row], theirs, rtol=0, atol=1e-8)
        theirs.square().mean().backward()
        solo = {name.replace(".a.", "."): p.grad for name, p in alone.named_parameters() if p.grad is not None}
        ours = stack.state(gradients[n])
        assert solo and max(value.abs().max() for value in solo.values()) > 1e-4
        for name, value in solo.items():
            torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "shape", "dtype", "share"),
    [
        # Convolutions stay as they are.
        (UNet2DConditionModel, XL, torch.bfloat16, (0.55, 0.58)),
        (SD3Transformer2DModel, {"num_layers": 24, "num_attention_heads": 24}, torch.bfloat16, (0.5, 0.53)),
        (Flux2Transformer2DModel, {}, torch.bfloat16, (0.5, 0.53)),
        (ZImageTransformer2DModel, {}, torch.bfloat16, (0.5, 0.52)),
        (ZImageTransformer2DModel, {}, torch.float32, (0.25, 0.27)),
    ],
)
def test_networks_of_the_published_size_take_half_the_memory(
    kind: Any, shape: dict[str, Any], dtype: torch.dtype, share: tuple[float, float]
) -> None:
    with torch.device("meta"):
        network = nn.Module.to(kind(**shape), dtype)
    whole = weight_bytes(network)
    quantise(network)
    assert share[0] < weight_bytes(network) / whole < share[1]


def test_what_training_loads_is_rounded_where_the_settings_say_so(tmp_path: Path) -> None:
    folder = tmp_path / "sd3"
    tiny_sd3().save_pretrained(folder)
    models = ModelsConfig(diffusion=str(folder), clip="demo", image_size=32)
    whole, rounded = load_denoiser(models), load_denoiser(models, "int8")
    assert not any(isinstance(module, Int8Linear) for module in whole.network.modules())
    assert any(isinstance(module, Int8Linear) for module in rounded.network.modules())
    assert not any(parameter.requires_grad for parameter in rounded.network.parameters())
    torch.manual_seed(0)
    sample, times = torch.randn(2, 4, 8, 8), torch.tensor([100.0, 800.0])
    told = {"text": torch.randn(2, 9, 48), "pooled": torch.randn(2, 32)}
    found, expected = rounded(sample, times, told), whole(sample, times, told)
    assert 0 < (found - expected).norm() / expected.norm() < 0.05
