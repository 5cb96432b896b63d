"""Many small requests at once, on a bounded number of threads: what takes time is the way to the store and back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeVar

THREADS = 8
# Files that one thread asks for at a time. Where one takes longer than a disk of this machine does, many ask at once; else
# threads would stand in each other's way.
_FILES, _SLOW_SECONDS, _MANY_THREADS = 500, 1e-4, 32
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


def stamps(
    folder: str, paths: Collection[str], slow_seconds: float = _SLOW_SECONDS
) -> dict[str, tuple[int, int] | None]:
    """Size in bytes and time in ns of files below a folder; None for one that is missing.

    By many threads if the first of them take longer than ``slow_seconds`` each.
    """
    names = sorted(paths)
    parts = [names[start : start + _FILES] for start in range(0, len(names), _FILES)]
    began = time.monotonic()
    first = [_stamps(folder, part) for part in parts[:1]]
    slow = time.monotonic() - began > slow_seconds * len(names[:_FILES])
    rest = each(partial(_stamps, folder), parts[1:], _MANY_THREADS if slow else 1)
    return dict(zip(names, (stamp for part in (*first, *rest) for stamp in part), strict=True))


def _stamps(folder: str, paths: Sequence[str]) -> list[tuple[int, int] | None]:
    return [_stamp(os.path.join(folder, path)) for path in paths]


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
