"""``torch.compile`` where it works: on a machine that lacks what it needs, the network runs as it is."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fairsynth.models.memory import lacks_memory

# Triton builds its launcher, and inductor its glue, with the machine's C compiler and Python's headers.
_LACKS_TOOLS = re.compile(r"C(\+\+)? compiler|Python\.h|\bgcc\b|\bclang\b|triton", re.IGNORECASE)
_COMPILERS = ("torch._dynamo.", "torch._inductor.", "triton.")
# Blocks of UNets that repeat, besides those that diffusers names in its networks: their convolutions are half of the work.
_RESNETS = ("ResnetBlock2D",)
# Versions of one block: a UNet has a dozen of its resnets by width and side, and torch gives up after eight.
_MOST_VERSIONS = 64
_log = logging.getLogger(__name__)


class Compiled:
    """A network that is compiled at its first call, or runs as it is from the first call on that cannot be compiled.

    The results are the same but for rounding. Which of both it was is said once, in the worker's log.
    ``by_blocks``: the blocks that the network repeats are compiled, and it runs as it is around them: equal blocks are
    compiled once. ``options``: as of ``torch.compile``.
    """

    def __init__(self, network: Callable[..., Any], by_blocks: bool = False, **options: Any) -> None:
        self.plain = network
        self.blocks = blocks_of(network) if by_blocks and isinstance(network, nn.Module) else []
        for block in self.blocks:
            block.compile(**options)
        if self.blocks:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_VERSIONS)
        self.fast = network if self.blocks else torch.compile(network, **options)
        self.graphs = options.get("mode") == "reduce-overhead"
        self.why = ""
        """Why the network is not compiled; empty: it is."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """As the network."""
        if not self.why:
            if self.graphs:
                # What the graphs of the call before gave is not looked at again.
                torch.compiler.cudagraph_mark_step_begin()
            try:
                return self._own(self.fast(*args, **options))
            except Exception as error:
                if not cannot_compile(error):
                    raise
                self.why = str(error).strip().partition("\n")[0][:200]
            _log.warning("the network runs uncompiled, and slower: %s; install a C compiler (gcc)", self.why)
            for block in self.blocks:
                block._compiled_call_impl = None
        return self.plain(*args, **options)

    def _own(self, result: Any) -> Any:
        """What a pass gave, in memory that the next one does not write to: a scheduler may look at it again."""
        if not self.graphs or torch.is_grad_enabled():
            return result
        return tuple(map(torch.clone, result)) if isinstance(result, tuple) else result.clone()


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The blocks that a network of diffusers repeats, none inside another; none if it names none."""
    names, found = {*(getattr(network, "_repeated_blocks", None) or ()), *_RESNETS}, list[nn.Module]()
    inside = set[nn.Module]()
    for module in network.modules():
        if type(module).__name__ in names and module not in inside:
            found.append(module)
            inside.update(module.modules())
    return found


def cannot_compile(error: BaseException) -> bool:
    """Whether an error says that a network cannot be compiled here, and not that its own work failed."""
    if lacks_memory(error):
        return False
    of = f"{type(error).__module__}."
    return of.startswith(_COMPILERS) or (isinstance(error, RuntimeError) and bool(_LACKS_TOOLS.search(str(error))))
