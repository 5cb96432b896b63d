"""Several adapters in one pass: each computes what it computes alone with peft, and no more operations are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fairsynth.models.stacked import StackedAdapters, gradient, shell
from tests.support.models.small_networks import (
    ALPHA,
    LAYERS,
    RANK,
    SD1,
    SHAPES,
    SIDE,
    TARGETS,
    WIDTH,
    Layers,
    rows_of,
    unet_of,
    with_peft,
)


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
        for place, (own, peft) in enumerate(zip(ours, theirs, strict=True)):
            torch.testing.assert_close(own[2 * n : 2 * n + 2], peft, rtol=0, atol=1e-12)
            assert torch.equal(own, base[place]) == (place != index)


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
