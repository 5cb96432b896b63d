"""What a network is told besides the noisy latents: named tensors, batch first.

``text`` is there in every family. ``mask`` (bool, by token) tells which tokens count where texts have lengths of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch.nn import functional

Conditions = dict[str, torch.Tensor]
MASK = "mask"


def mapped(change: Callable[[torch.Tensor], torch.Tensor], conditions: Conditions) -> Conditions:
    """The same conditions with every tensor changed alike."""
    return {name: change(value) for name, value in conditions.items()}


def in_format(conditions: Conditions, dtype: torch.dtype, but: Collection[str] = ()) -> Conditions:
    """The same conditions in a number format, all ``but`` these; masks stay as they are."""
    return {
        name: value.to(dtype) if value.is_floating_point() and name not in but else value
        for name, value in conditions.items()
    }


def joined(parts: Sequence[Conditions]) -> Conditions:
    """Batches one behind the other. Shorter texts are padded with zeros at their ends, masks with False."""
    return {name: torch.cat(_even([part[name] for part in parts], 1)) for name in parts[0]}


def stacked(parts: Sequence[Conditions]) -> Conditions:
    """Conditions of the same shape under a new first dimension. Texts are padded as in ``joined``: those of single samples
    along their first dimension, those of batches along the second, whose tensors all begin with the same numbers.
    """
    found = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        differ = [axis for axis in range(values[0].dim()) if len({value.shape[axis] for value in values}) > 1]
        found[name] = torch.stack(_even(values, differ[0]) if differ else values)
    return found


def _even(values: Sequence[torch.Tensor], axis: int) -> list[torch.Tensor]:
    """Tensors of the same size along an axis."""
    if values[0].dim() <= axis:
        return list(values)
    longest = max(value.shape[axis] for value in values)
    behind = values[0].dim() - axis - 1
    return [
        functional.pad(value, (0, 0) * behind + (0, longest - value.shape[axis]))
        if value.shape[axis] < longest
        else value
        for value in values
    ]
