"""Model work in parts that memory holds: where it runs out, smaller parts give the same result."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TypeVar

import psutil
import torch

from fairsynth.errors import Exhausted

T = TypeVar("T")
# What to do where one piece does not fit: of any model, and of images and their latents.
OWN_GPU = "give each worker a GPU of its own (resources.gpus_per_worker 1)"
LIGHTER = f"{OWN_GPU}, or set models.dtype to bfloat16 or a smaller models.image_size"
# cuBLAS and cuDNN take memory of their own, and say what they lack as plain RuntimeErrors; so does torch on a CPU.
_LACKS_MEMORY = re.compile(
    r"out of memory|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)|CUDNN_STATUS_(ALLOC_FAILED|INTERNAL_ERROR)"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory",
    re.IGNORECASE,
)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of torch, of the libraries under it or of Python says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_LACKS_MEMORY.search(str(error)))


class Parts:
    """Runs work on parts of a batch. Where memory runs out parts become half as large, and stay so.

    ``what``: one piece of the batch, for people; ``ways``: what to do if not even one fits; ``size``: of the first parts
    (None: the whole batch).
    """

    def __init__(self, what: str, ways: str, size: int | None = None) -> None:
        self.what, self.ways, self.size = what, ways, size

    def __call__(self, total: int, work: Callable[[slice], T], afresh: bool = False) -> list[T]:
        """The results of ``work`` on slices that cover ``total`` pieces in their order; one slice if there are none.

        ``afresh``: results of parts that were made before memory ran out are dropped, and all begins anew.
        Raises Exhausted if one piece alone does not fit.
        """
        results: list[T] = []
        start = 0
        while start < max(1, total):
            size = min(self.size or total, total - start)
            try:
                results.append(work(slice(start, start + size)))
            except Exception as error:
                if not lacks_memory(error):
                    raise
                if size <= 1:
                    raise Exhausted(f"{self._short_of(error)}; {self.ways}") from error
            else:
                start += max(1, size)
                continue
            # Not in the handler: the exception keeps the work's memory alive.
            self.size = math.ceil(size / 2)
            torch.cuda.empty_cache()
            if afresh:
                results, start = [], 0
        return results

    def _short_of(self, error: BaseException) -> str:
        where = f"the GPU ({torch.cuda.get_device_name()})" if torch.cuda.is_initialized() else "this machine"
        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_initialized() else psutil.virtual_memory().available
        said = " ".join(str(error).split())[:160].rstrip(".; ") or type(error).__name__
        return f"{where} has not enough memory for {self.what}: {free / 2**30:.1f} GiB are free ({said})"
