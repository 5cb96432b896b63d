"""``torch.compile`` where it works: on a machine that lacks what it needs, the network runs as it is."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import torch

from fairsynth.models.memory import lacks_memory

# Triton builds its launcher, and inductor its glue, with the machine's C compiler and Python's headers.
_LACKS_TOOLS = re.compile(r"C(\+\+)? compiler|Python\.h|\bgcc\b|\bclang\b|triton", re.IGNORECASE)
_COMPILERS = ("torch._dynamo.", "torch._inductor.", "triton.")
_log = logging.getLogger(__name__)


class Compiled:
    """A network that is compiled at its first call, or runs as it is from the first call on that cannot be compiled.

    The results are the same but for rounding. Which of both it was is said once, in the worker's log.
    """

    def __init__(self, network: Callable[..., Any]) -> None:
        self.plain, self.fast = network, torch.compile(network)
        self.why = ""
        """Why the network is not compiled; empty: it is."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """As the network."""
        if not self.why:
            try:
                return self.fast(*args, **options)
            except Exception as error:
                if not cannot_compile(error):
                    raise
                self.why = str(error).strip().partition("\n")[0][:200]
            _log.warning("the network runs uncompiled, and slower: %s; install a C compiler (gcc)", self.why)
        return self.plain(*args, **options)


def cannot_compile(error: BaseException) -> bool:
    """Whether an error says that a network cannot be compiled here, and not that its own work failed."""
    if lacks_memory(error):
        return False
    of = f"{type(error).__module__}."
    return of.startswith(_COMPILERS) or (isinstance(error, RuntimeError) and bool(_LACKS_TOOLS.search(str(error))))
