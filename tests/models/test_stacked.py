"""Stacked adapters alone: what they compute equals peft's, their names are peft's, and they leave no trace."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fairsynth.models.stacked import StackedAdapters, gradient, shell

RANK, ALPHA, WIDTH, SIDE = 3, 5.0, 16, 8
# Every kind of layer that Stable Diffusion's UNets have.
TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "net.0.proj", "net.2", "conv1", "conv2", "conv",
    "conv_in", "conv_out", "conv_shortcut", "time_emb_proj", "linear_1", "linear_2",
)  # fmt: skip
SD1: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
SHAPES: dict[str, dict[str, Any]] = {
    "SD 1": SD1,
    "SD 2": SD1 | {"use_linear_projection": True, "attention_head_dim": (2, 4)},
    "SDXL": {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2),
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + WIDTH,
    },
}


def unet_of(shape: Mapping[str, Any]) -> UNet2DConditionModel:
    """A tiny UNet of a family of Stable Diffusion, float64."""
    torch.manual_seed(0)
    same = {"layers_per_block": 1, "norm_num_groups": 2, "cross_attention_dim": WIDTH, "attention_head_dim": 2}
    unet = UNet2DConditionModel(**{"sample_size": SIDE, **same, **shape})
    return nn.Module.to(unet, torch.float64).requires_grad_(False)


def inputs_of(unet: UNet2DConditionModel, count: int) -> dict[str, Any]:
    """So many different samples for the UNet."""
    torch.manual_seed(1)
    inputs: dict[str, Any] = {
        "sample": torch.randn(count, 4, SIDE, SIDE, dtype=torch.float64),
        "timestep": torch.randint(1000, (count,)),
        "encoder_hidden_states": torch.randn(count, 5, WIDTH, dtype=torch.float64),
    }
    if unet.config.addition_embed_type:
        pooled = torch.randn(count, WIDTH, dtype=torch.float64)
        inputs["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": torch.rand(count, 6, dtype=torch.float64)}
    return inputs


def share(inputs: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Some of the samples."""
    return {k: share(v, rows) if isinstance(v, dict) else v[rows] for k, v in inputs.items()}


def rows_of(stack: StackedAdapters, count: int, kind: torch.dtype = torch.float64) -> torch.Tensor:
    """So many different adapters that change what is computed."""
    return torch.randn(count, stack.size, generator=torch.Generator().manual_seed(2), dtype=kind) * 0.2


def with_peft(network: nn.Module, state: Mapping[str, torch.Tensor], targets: Sequence[str]) -> nn.Module:
    """A copy of the network with an adapter by peft."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(targets))
    network = inject_adapter_in_model(config, copy.deepcopy(network), adapter_name="a")
    left = set_peft_model_state_dict(network, dict(state), adapter_name="a")
    assert not left.unexpected_keys
    return network


class Layers(nn.Module):
    """One layer of every form, none of which follows another: samples that get mixed up show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside = nn.ModuleDict(
            {
                "linear": nn.Linear(6, 7),
                "unbiased": nn.Linear(6, 5, bias=False),
                "pointwise": nn.Conv2d(6, 7, 1),
                "sparse": nn.Conv2d(6, 7, 1, stride=2),
                "padded": nn.Conv2d(6, 7, 1, padding=1),
                "strided": nn.Conv2d(6, 7, 3, stride=2, padding=1),
                "oblong": nn.Conv2d(6, 7, (1, 3), padding="same", bias=False),
            }
        ).double()
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Of an image (N, 6, h, w): what each layer makes of it."""
        return [
            layer(x.flatten(2).transpose(1, 2) if name in ("linear", "unbiased") else x)
            for name, layer in self.inside.items()
        ]


LAYERS = tuple(Layers().inside)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_layer_with_several_adapters_equals_several_layers_of_peft(layer: str, count: int) -> None:
    network, x = Layers(), torch.randn(count * 2, 6, 5, 7, dtype=torch.float64)
    stack = StackedAdapters(network, RANK, ALPHA, [layer])
    weights, index = rows_of(stack, count), LAYERS.index(layer)
    base = network(x)
    with stack.using(weights):
        ours = network(x)
    stack.remove()
    for n in range(count):
        theirs = with_peft(network, stack.state(weights[n]), [layer])(x[2 * n : 2 * n + 2])
        for place, (mine, peft) in enumerate(zip(ours, theirs, strict=True)):
            torch.testing.assert_close(mine[2 * n : 2 * n + 2], peft, rtol=0, atol=1e-12)
            assert torch.equal(mine, base[place]) == (place != index)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_how_an_image_lies_in_memory_changes_nothing(layout: torch.memory_format) -> None:
    network, x = Layers(), torch.randn(4, 6, 5, 7, dtype=torch.float64)
    stack = StackedAdapters(network, RANK, ALPHA, LAYERS)
    with stack.using(rows_of(stack, 2)):
        expected, found = network(x), network.to(memory_format=layout)(x.contiguous(memory_format=layout))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_names_and_shapes_are_those_of_peft(shape: dict[str, Any]) -> None:
    unet = unet_of(shape)
    stack = StackedAdapters(unet, RANK, ALPHA, TARGETS)
    stack.remove()
    ours = stack.state(rows_of(stack, 1)[0])
    layers = [name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert {name.rsplit(".lora_")[0] for name in ours} == set(layers), "every layer must be among the targets"
    unet.add_adapter(LoraConfig(r=RANK, target_modules=list(TARGETS)), "a")
    theirs = get_peft_model_state_dict(unet, adapter_name="a")
    assert {name: value.shape for name, value in ours.items()} == {name: v.shape for name, v in theirs.items()}
    assert stack.size == sum(value.numel() for value in theirs.values())
    assert all(value.is_contiguous() for value in ours.values())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_unet_with_several_adapters_equals_several_unets_of_peft(shape: dict[str, Any]) -> None:
    unet = unet_of(shape)
    inputs, stack = inputs_of(unet, 6), StackedAdapters(unet, RANK, ALPHA, TARGETS)
    weights, base = rows_of(stack, 3), unet(**inputs).sample
    with stack.using(weights) as leaves:
        ours = unet(**inputs).sample
        gradients = gradient(ours.square().unflatten(0, (3, 2)).mean((1, 2, 3, 4)), leaves)
    stack.remove()
    for n in range(3):
        rows = slice(2 * n, 2 * n + 2)
        alone = with_peft(unet, stack.state(weights[n]), TARGETS)
        theirs = alone(**share(inputs, rows)).sample
        torch.testing.assert_close(ours[rows], theirs, rtol=0, atol=1e-12)
        assert (theirs - base[rows]).abs().max() > 0.01
        theirs.square().mean().backward()
        solo = {k.replace(".a.", "."): p.grad for k, p in alone.named_parameters() if p.grad is not None}
        for name, value in stack.state(gradients[n]).items():
            torch.testing.assert_close(value, solo[name], rtol=1e-9, atol=1e-12)


def test_without_adapters_the_network_computes_its_own_bits() -> None:
    unet = unet_of(SHAPES["SD 2"])
    inputs = inputs_of(unet, 4)
    before, weights = {k: v.clone() for k, v in unet.state_dict().items()}, unet.state_dict()
    base = unet(**inputs).sample
    stack = StackedAdapters(unet, RANK, ALPHA, TARGETS)
    assert torch.equal(unet(**inputs).sample, base)
    with stack.using(None) as leaves:
        assert leaves == [] and torch.equal(unet(**inputs).sample, base)
    with stack.using(rows_of(stack, 2)):
        assert not torch.equal(unet(**inputs).sample, base)
    assert torch.equal(unet(**inputs).sample, base)
    stack.remove()
    assert torch.equal(unet(**inputs).sample, base)
    assert not any(module._forward_hooks for module in unet.modules())
    assert weights.keys() == before.keys() and all(torch.equal(weights[k], before[k]) for k in before)


def test_adapters_used_within_others_give_them_back_even_after_an_error() -> None:
    network, x = Layers(), torch.randn(2, 6, 5, 7, dtype=torch.float64)
    stack = StackedAdapters(network, RANK, ALPHA, ["linear"])
    base, weights = network(x)[0], rows_of(stack, 2)
    with stack.using(weights):
        expected = network(x)[0]
        with stack.using(None):
            assert torch.equal(network(x)[0], base)
        assert torch.equal(network(x)[0], expected)
        with pytest.raises(KeyError), stack.using(weights.flip(0)):
            assert not torch.equal(network(x)[0], expected)
            raise KeyError
        assert torch.equal(network(x)[0], expected)


def test_a_fresh_adapter_changes_nothing_and_its_seed_decides_it() -> None:
    unet = unet_of(SD1)
    inputs, stack = inputs_of(unet, 2), StackedAdapters(unet, RANK, ALPHA, TARGETS)
    one, again, other = (stack.initial(seed) for seed in (1, 1, 2))
    assert one.dtype == torch.float32 and one.shape == (stack.size,)
    assert torch.equal(one, again) and not torch.equal(one, other)
    base = unet(**inputs).sample
    with stack.using(torch.stack([one, other])):
        assert torch.equal(unet(**inputs).sample, base)
    values = {part: torch.cat([v.flatten() for k, v in stack.state(one).items() if part in k]) for part in ("A", "B")}
    assert values["B"].count_nonzero() == 0
    # As peft's "gaussian".
    assert values["A"].std().item() == pytest.approx(1 / RANK, rel=0.02)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_row_survives_being_named_and_the_other_way_round(kind: torch.dtype) -> None:
    stack = StackedAdapters(unet_of(SHAPES["SDXL"]), RANK, ALPHA, TARGETS)
    (row,) = rows_of(stack, 1, kind)
    state = stack.state(row)
    back = stack.row(state)
    assert torch.equal(back, row) and back.dtype == kind
    assert stack.state(back).keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in stack.state(back).items())
    row.zero_()
    assert all(value.count_nonzero() for value in state.values()), "a state is a copy"
    # Whatever order a file has them in.
    assert torch.equal(stack.row(dict(reversed(state.items()))), back)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("inside.linear.lora_A.weight", None, "rank 3 for layer 'inside.linear'"),
        ("inside.strided.lora_B.weight", None, "rank 3 for layer 'inside.strided'"),
        ("inside.linear.lora_A.weight", torch.zeros(4, 6), "rank 3 for layer 'inside.linear'"),
        ("inside.linear.lora_A.weight", torch.zeros(6, 3), "rank 3 for layer 'inside.linear'"),
        ("inside.strided.lora_B.weight", torch.zeros(7, 3), "rank 3 for layer 'inside.strided'"),
        ("inside.pointwise.lora_A.weight", torch.zeros(3, 6, 1, 1), "no adapted layer for 'inside.pointwise.lora_A"),
        ("inside.linear.weight", torch.zeros(7, 6), "no adapted layer for 'inside.linear.weight'"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(name: str, value: torch.Tensor | None, message: str) -> None:
    stack = StackedAdapters(Layers(), RANK, ALPHA, ["linear", "strided"])
    state = stack.state(stack.initial(0)) | ({} if value is None else {name: value})
    if value is None:
        del state[name]
    with pytest.raises(ValueError, match=message):
        stack.row(state)


def test_a_state_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 3 for layer"):
        StackedAdapters(Layers(), RANK, ALPHA, ["linear"]).row({})


class _Own(nn.Linear):
    """A layer that may compute anything."""


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"other": nn.Linear(2, 2)}, "no layer's name ends with one of 'target', 'targets'"),
        ({"no_target": nn.Linear(2, 2)}, "no layer's name ends with"),
        ({"target": nn.Conv1d(2, 2, 1)}, r"'x\.target' is a torch.*Conv1d; adapters are for Linear and Conv2d"),
        ({"target": nn.Sequential(nn.Linear(2, 2))}, r"'x\.target' is a torch.*Sequential"),
        ({"target": _Own(2, 2)}, r"'x\.target' is a .*_Own"),
        ({"target": nn.Conv2d(2, 2, 3, groups=2)}, r"'x\.target' is a convolution with groups"),
        ({"target": nn.Conv2d(2, 2, 3, dilation=2)}, r"'x\.target' is a convolution with groups, dilation"),
        ({"target": nn.Conv2d(2, 2, 3, padding_mode="reflect")}, r"'x\.target' is a convolution with"),
        (dict.fromkeys(["target", "targets"], nn.Linear(2, 2)), r"'x\.target' and 'x\.targets' are the same layer"),
        (dict.fromkeys(["a", "target"], nn.Linear(2, 2)), r"'x\.a' and 'x\.target' are the same layer"),
        ({"targets": nn.Linear(2, 2), "target": nn.LayerNorm(2)}, r"'x\.target' is a torch.*LayerNorm"),
    ],
)
def test_layers_that_cannot_be_adapted_are_refused(layers: dict[str, nn.Module], message: str) -> None:
    network = nn.ModuleDict({"x": nn.ModuleDict(layers)})
    with pytest.raises(ValueError, match=message):
        StackedAdapters(network, RANK, ALPHA, ["target", "targets"])
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_that_peft_has_adapted_is_refused() -> None:
    stack = StackedAdapters(Layers(), RANK, ALPHA, ["linear"])
    wrapped = with_peft(Layers(), stack.state(stack.initial(0)), ["linear"])
    with pytest.raises(ValueError, match=r"'inside\.linear' is a peft\."):
        StackedAdapters(wrapped, RANK, ALPHA, ["linear"])


@pytest.mark.parametrize("layer", LAYERS)
def test_a_batch_that_adapters_cannot_share_evenly_is_refused(layer: str) -> None:
    network = Layers()
    stack = StackedAdapters(network, RANK, ALPHA, [layer])
    # Linear would find an even share of 4 * 35 tokens among 5 adapters: across samples.
    with stack.using(rows_of(stack, 5)), pytest.raises(ValueError, match="5 adapters cannot share a batch of 4"):
        network(torch.randn(4, 6, 5, 7, dtype=torch.float64))


class Kernels(TorchDispatchMode):
    """Counts the operations that torch is told to do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def _calls(count: int) -> Counter[str]:
    """Operations of a pass and the way back with so many adapters, two samples each."""
    unet = unet_of(SD1)
    stack, inputs = StackedAdapters(unet, RANK, ALPHA, TARGETS), inputs_of(unet, 2 * count)
    weights = rows_of(stack, count)
    with Kernels() as kernels, stack.using(weights) as leaves:
        losses = unet(**inputs).sample.square().view(count, -1).mean(1)
        gradient(losses, leaves)
    return kernels.calls


def test_more_adapters_are_no_more_operations() -> None:
    few, many = _calls(2), _calls(8)
    assert few == many
    assert few["aten.bmm.default"] > 100 and few["aten.convolution_backward.default"] > 5, "the way back counts too"


def test_a_shell_shares_memory_and_has_hooks_of_its_own() -> None:
    network, x = Layers(), torch.randn(2, 6, 5, 7, dtype=torch.float64)
    other = shell(network)
    stack = StackedAdapters(other, RANK, ALPHA, LAYERS)
    assert [p.data_ptr() for p in other.parameters()] == [p.data_ptr() for p in network.parameters()]
    base = network(x)
    with stack.using(rows_of(stack, 2)):
        assert not any(torch.equal(a, b) for a, b in zip(other(x), base, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(network(x), base, strict=True))
