"""Stacked LoRA: N adapters of one frozen network in one forward and one backward pass.

All weights of an adapter are one row of a matrix ``weights_NP``. The batch is adapter-major: its first
``len(batch) / N`` samples belong to row 0, the next to row 1, and so on. Every adapted layer then adds
``scale * x A B`` of all adapters with batched matrix products, so N adapters cost as many kernel launches
as one. That is exact where no layer mixes samples, as in the UNets of Stable Diffusion, which stay as
diffusers made them: adapters enter by forward hooks.

Frozen weights may be int8 (``models.int8``). Needs torch alone. LoRA: arXiv 2106.09685; of convolutions: as peft does it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from fairsynth.models.int8 import Int8Linear

# Standard deviation of A's first values times the rank, as in peft's "gaussian"; B starts at zero.
INITIAL_SPREAD = 1.0
# Groups, dilation and padding mode of the convolutions that can be adapted.
_USUAL = (1, (1, 1), "zeros")


class StackedAdapters:
    """The adapted layers of a network, and how the rows of ``weights_NP`` map to them.

    Within a row every layer has A, then B, in the order of the network's modules: A[in, r] and B[r, out] for
    ``nn.Linear``, A[r, in, k, k] and B[out, r] for ``nn.Conv2d``. Raises ValueError if no layer's name ends with
    one of ``target_modules``, or if one that does has another type or several names, or ends with one of ``uneven``: layers
    to which samples of several lengths come as one row, which cannot be shared out evenly.
    """

    def __init__(
        self, network: nn.Module, rank: int, alpha: float, target_modules: Sequence[str], uneven: Sequence[str] = ()
    ) -> None:
        self.network, self.rank, self.alpha, self.scale = network, rank, alpha, alpha / rank
        self.target_modules = tuple(target_modules)
        matching = _matching(network, target_modules)
        if mixed := [name for name, _ in matching if _ends(name, uneven)]:
            raise ValueError(f"{mixed[0]!r} gets texts of several lengths in one row; several adapters cannot share it")
        self._layers = [_Layer(name, module, rank, self.scale) for name, module in matching]
        self._sizes = [size for layer in self._layers for size in layer.sizes]
        self._hooks = [layer.module.register_forward_hook(layer) for layer in self._layers]
        self.size = sum(self._sizes)
        """Weights of one adapter: P."""

    def remove(self) -> None:
        """Remove the hooks; the network is as before."""
        for hook in self._hooks:
            hook.remove()

    def initial(self, seed: int) -> torch.Tensor:
        """A fresh adapter, float32 (P,): A Gaussian, B zero, so that it changes nothing yet."""
        generator, row = torch.Generator().manual_seed(seed), torch.zeros(self.size)
        for piece in row.split(self._sizes)[::2]:
            piece.normal_(0, INITIAL_SPREAD / self.rank, generator=generator)
        return row

    @contextmanager
    def using(self, weights_NP: torch.Tensor | None) -> Iterator[list[torch.Tensor]]:
        """Inside, the network computes with these adapters (None: without any); yields the leaves of ``gradient``.

        The products run in the network's number format, whatever the format of the weights. Within each other, the
        innermost counts. The network raises ValueError for a batch that cannot be shared out evenly.
        """
        leaves: list[torch.Tensor] = []
        if weights_NP is not None:
            dtype = self._layers[0].module.weight.dtype
            leaves = [piece.requires_grad_() for piece in weights_NP.detach().to(dtype).split(self._sizes, 1)]
        inside = _pairs(leaves) if leaves else [None] * len(self._layers)
        outside = [layer.weights for layer in self._layers]
        self._use(inside)
        try:
            yield leaves
        finally:
            self._use(outside)

    def _use(self, weights: Sequence[tuple[torch.Tensor, torch.Tensor] | None]) -> None:
        for layer, pair in zip(self._layers, weights, strict=True):
            layer.weights = pair

    def state(self, weights_P: torch.Tensor) -> dict[str, torch.Tensor]:
        """An adapter in peft's names and shapes: ``<module>.lora_A.weight``, ``<module>.lora_B.weight``."""
        state = {}
        for layer, pair in zip(self._layers, _pairs(weights_P.detach().split(self._sizes)), strict=True):
            for name, piece in zip(layer.names, layer.to_peft(*pair), strict=True):
                # A copy, because the row goes on changing.
                state[name] = piece.clone(memory_format=torch.contiguous_format)
        return state

    def row(self, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The inverse of ``state``. Raises ValueError if a layer is missing, unknown, or of another shape."""
        names = {name for layer in self._layers for name in layer.names}
        if unknown := sorted(state.keys() - names):
            raise ValueError(f"the network has no adapted layer for {unknown[0]!r}")
        pieces: list[torch.Tensor] = []
        for layer in self._layers:
            pair = [state[name] for name in layer.names if name in state]
            if [piece.shape for piece in pair] != layer.shapes:
                raise ValueError(f"no adapter of rank {self.rank} for layer {layer.name!r}")
            pieces += layer.from_peft(*pair)
        return torch.cat([piece.flatten() for piece in pieces])


def gradient(losses_N: torch.Tensor, leaves: Sequence[torch.Tensor]) -> torch.Tensor:
    """d losses_N[n] / d weights_NP[n], float32 or wider, (N, P): one backward pass for all adapters.

    Zeros where a layer's output reaches no loss, as that of a text's stream in the last block of a transformer.
    """
    pieces = torch.autograd.grad(losses_N.sum(), leaves, materialize_grads=True)
    # One copy of contiguous pieces; autograd's own way through split costs many times that.
    whole = torch.cat([piece.reshape(len(piece), -1) for piece in pieces], 1)
    return whole.to(torch.promote_types(whole.dtype, torch.float32))


def shell(network: nn.Module) -> nn.Module:
    """Another instance of the network over the same weights: its hooks are its own, its memory is shared."""
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)  # type: ignore[arg-type]


def _matching(network: nn.Module, target_modules: Sequence[str]) -> list[tuple[str, nn.Module]]:
    """The modules whose name is, or after a dot ends with, one of the targets. Raises ValueError if none is usable."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    matching = []
    for module, known in names.items():
        if any(_ends(name, target_modules) for name in known):
            if len(known) > 1:
                # peft would adapt it under one name and not under the others.
                raise ValueError(f"{' and '.join(map(repr, known))} are the same layer")
            matching.append((known[0], module))
    if not matching:
        raise ValueError(f"no layer's name ends with one of {', '.join(map(repr, target_modules))}")
    return matching


def _ends(name: str, targets: Sequence[str]) -> bool:
    """Whether a name is one of the targets, or ends with a dot and one."""
    return any(f".{name}".endswith(f".{target}") for target in targets)


def _supported(name: str, module: nn.Module) -> nn.Linear | nn.Conv2d:
    """The module. Raises ValueError for a layer that adapters are not for."""
    layer_type = type(module)
    # Another class derived from these may compute something else, or pack its weights.
    if layer_type not in (nn.Linear, nn.Conv2d, Int8Linear):
        raise ValueError(
            f"{name!r} is a {layer_type.__module__}.{layer_type.__name__}; adapters are for Linear and Conv2d"
        )
    assert isinstance(module, nn.Linear | nn.Conv2d)
    # peft gives A of a dilated convolution no dilation: its forward pass would differ from the merged weights.
    if isinstance(module, nn.Conv2d) and (module.groups, module.dilation, module.padding_mode) != _USUAL:
        raise ValueError(f"{name!r} is a convolution with groups, dilation or unusual padding")
    return module


def _pairs(pieces: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A and B of every layer."""
    return list(zip(pieces[::2], pieces[1::2], strict=True))


class _Layer:
    """One adapted layer: a forward hook that adds the output of the adapters in use."""

    def __init__(self, name: str, module: nn.Module, rank: int, scale: float) -> None:
        self.name, self.module, self.rank, self.scale = name, _supported(name, module), rank, scale
        self.names = (f"{name}.lora_A.weight", f"{name}.lora_B.weight")
        self.weights: tuple[torch.Tensor, torch.Tensor] | None = None
        self.outputs, *inputs = self.module.weight.shape
        self.inputs = math.prod(inputs)
        self.sizes = (self.inputs * rank, rank * self.outputs)
        self.shapes = [(rank, *inputs), (self.outputs, rank, *(1 for _ in inputs[1:]))]
        """Of A and B in peft."""
        self._add: Callable[..., torch.Tensor] = self._linear
        if isinstance(module, nn.Conv2d):
            plain = (module.kernel_size, module.stride, module.padding) == ((1, 1), (1, 1), (0, 0))
            self._add = self._pointwise if plain else self._conv

    def __call__(self, module: nn.Module, args: tuple[torch.Tensor, ...], base: torch.Tensor) -> torch.Tensor | None:
        if self.weights is None:
            return None
        if len(args[0]) % len(self.weights[0]):
            raise ValueError(f"{len(self.weights[0])} adapters cannot share a batch of {len(args[0])} evenly")
        return self._add(args[0], base, *self.weights)

    def _linear(self, x: torch.Tensor, base: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        n = len(down)
        down, up = down.view(n, self.inputs, self.rank), up.view(n, self.rank, self.outputs)
        hidden = torch.bmm(x.reshape(n, -1, self.inputs), down)
        return torch.baddbmm(base.reshape(n, -1, self.outputs), hidden, up, alpha=self.scale).view(base.shape)

    def _pointwise(self, x: torch.Tensor, base: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        total, n = len(x), len(down)
        down = _each(down.view(n, self.rank, self.inputs), total)
        return self._raise(torch.bmm(down, x.reshape(total, self.inputs, -1)), base, up)

    def _conv(self, x: torch.Tensor, base: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """A as one grouped convolution: unfolding the image moves an order of magnitude more memory."""
        module, n, total, (channels, *image) = self.module, len(down), len(x), x.shape[1:]
        assert isinstance(module, nn.Conv2d)
        each = total // n
        down = down.reshape(n * self.rank, *module.weight.shape[1:])
        grouped = x.view(n, each, channels, *image).transpose(0, 1).reshape(each, n * channels, *image)
        hidden = functional.conv2d(grouped, down, None, module.stride, module.padding, 1, n)
        return self._raise(hidden.view(each, n, self.rank, -1).transpose(0, 1).reshape(total, self.rank, -1), base, up)

    def _raise(self, hidden: torch.Tensor, base: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """B of a convolution, (N, out * r), on hidden (samples, r, pixels)."""
        total = len(hidden)
        up = _each(up.view(len(up), self.outputs, self.rank), total)
        return torch.baddbmm(base.reshape(total, self.outputs, -1), up, hidden, alpha=self.scale).view(base.shape)

    def to_peft(self, down: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A and B of one adapter from this row's pieces to peft's shapes."""
        if isinstance(self.module, nn.Linear):
            return down.view(self.inputs, self.rank).T, up.view(self.rank, self.outputs).T
        return down.view(self.shapes[0]), up.view(self.shapes[1])

    def from_peft(self, down: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The inverse, still to be flattened."""
        return (down.T, up.T) if isinstance(self.module, nn.Linear) else (down, up)


def _each(matrices_N: torch.Tensor, total: int) -> torch.Tensor:
    """Every adapter's matrix once per sample of it: (N, a, b) to (total, a, b)."""
    n, *shape = matrices_N.shape
    return matrices_N.unsqueeze(1).expand(n, total // n, *shape).reshape(total, *shape)
