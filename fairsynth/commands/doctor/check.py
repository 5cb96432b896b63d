"""One check: what was looked at, what was found, and what to do about it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

Status = Literal["ok", "warning", "failed"]
T = TypeVar("T")


class Check(NamedTuple):
    """``found``: what is there, for people; ``do``: one sentence of what to do, empty where all is well."""

    name: str
    status: Status
    found: str
    do: str = ""


def within(seconds: float, work: Callable[[], T]) -> T:
    """What the work returns or raises; TimeoutError if it is not done by then: it goes on in a thread nobody waits for."""
    ended: list[tuple[T | None, BaseException | None]] = []

    def run() -> None:
        try:
            ended.append((work(), None))
        except BaseException as error:  # it is raised again below
            ended.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    result, error = ended[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def one_line(error: BaseException) -> str:
    """An error's text on one line, without what follows the first 300 characters."""
    return (getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__)[:300]


def gib(n: float) -> str:
    """Bytes for people."""
    return f"{n / 2**30:.1f} GiB"
