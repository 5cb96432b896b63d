"""Handlers of signals, which Ray and Ray Tune replace by their own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Those that Ray and Ray Tune set: Ray's Python part and, behind it, its C++ part, which aborts the process.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put back the handlers of signals, also over those of C++; only a process's main thread has any.

    Ray's own handler of SIGTERM raises SystemExit: inside that is an interruption, KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    except SystemExit as error:
        if error.code == signal.SIGTERM:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            with suppress(TypeError):  # one that was not set from Python
                signal.signal(number, handler)
