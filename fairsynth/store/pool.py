"""Many small requests at once, on a bounded number of threads: what takes time is the way to the store and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

THREADS = 8
A = TypeVar("A")
B = TypeVar("B")


@cache
def _lasting() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "disk")


def each_at_once(work: Callable[[A], object], items: Iterable[A]) -> None:
    """The work on each item, by threads that stay: for waits of milliseconds, which threads made for them would double.

    The work asks for no such threads itself. Raises the first of several errors, after all have ended.
    """
    first, *others = items
    waiting = [_lasting().submit(work, item) for item in others]
    try:
        work(first)
    finally:
        errors = [error for future in waiting if (error := future.exception())]
    if errors:
        raise errors[0]


def each(work: Callable[[A], B], items: Iterable[A], threads: int = THREADS) -> list[B]:
    """What the work returns for each item, in their order. Of several errors the first is raised; what waits is dropped."""
    waiting = list(items)
    if len(waiting) < 2:
        return [work(item) for item in waiting]
    with ThreadPoolExecutor(min(threads, len(waiting)), "store") as pool:
        futures = [pool.submit(work, item) for item in waiting]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
