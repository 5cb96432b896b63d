"""Rows of adapters and their states are each others inverse; what does not fit is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fairsynth.models.stacked import StackedAdapters
from tests.support.models.small_networks import (
    ALPHA,
    LAYERS,
    RANK,
    SHAPES,
    TARGETS,
    Layers,
    rows_of,
    unet_of,
    with_peft,
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_row_survives_being_named_and_the_other_way_round(dtype: torch.dtype) -> None:
    stack = StackedAdapters(unet_of(SHAPES["SDXL"]), RANK, ALPHA, TARGETS)
    (row,) = rows_of(stack, 1, dtype)
    state = stack.state(row)
    back = stack.row(state)
    assert torch.equal(back, row) and back.dtype == dtype
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
