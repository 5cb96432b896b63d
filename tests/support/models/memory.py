"""Networks that have no memory for batches above a size, as torch, cuBLAS and cuDNN say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
FAULTS = {
    "torch": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cublas": lambda: RuntimeError(CUBLAS),
    "cudnn": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
}
Fault = Callable[[], RuntimeError]


@contextmanager
def memory_for(network: torch.nn.Module, limit: int, fault: Fault = FAULTS["torch"]) -> Iterator[list[int]]:
    """A network that has no memory for a batch of more than ``limit`` samples; gives the sizes that it had memory for."""
    sizes: list[int] = []

    def hook(module: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        size = len(args[0] if args else next(iter(options.values())))
        if size > limit:
            raise fault()
        sizes.append(size)

    handle = network.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()
