"""What ends a command from outside: Ctrl-C, SIGTERM, SIGHUP, or the loss of what it works on.

The first such event raises KeyboardInterrupt in the main thread; ``cause`` says what it was. A process that does not come
to its end within seconds, because the main thread waits in C++ or a library has swallowed the exception, is ended by
another thread. A second signal ends it at once.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import fairsynth.safe_path  # noqa: F401 # isort: split
from fairsynth.errors import InfrastructureError

INTERRUPTED = 130
MESSAGE = "interrupted; finished work is kept, the same command goes on"
# Seconds that the main thread has to leave, and that last words may take when it did not.
GRACE, _LAST_WORDS = 8.0, 2.0
_AT_ONCE = 0.1  # seconds within which signals are one
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_COMMANDS = ("fairsynth", "fairsynth.cli")


class _Process:
    """The process that signals are caught in, if it is a command's."""

    def __init__(self) -> None:
        self.caught = self.told = self.raised = False
        self.cause: BaseException | None = None
        self.stderr = 2
        self.woken: socket.socket | None = None
        self.last_words: list[Callable[[BaseException], None]] = []
        self.last_deeds: list[Callable[[], None]] = []
        self.lock = threading.RLock()  # a handler may run while its thread holds it
        self.deeds = threading.RLock()


_process = _Process()


def catch() -> None:
    """Catch the signals from now on, in the main thread of a command's process; one that is ignored stays so."""
    if _process.caught or threading.current_thread() is not threading.main_thread():
        return
    _process.caught = True
    reading, _process.woken = socket.socketpair()
    _process.woken.setblocking(False)
    with suppress(OSError):
        _process.stderr = os.dup(2)  # Ray's start takes the other for a while
    _set(_raise)
    signal.set_wakeup_fd(_process.woken.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True, name="interrupts").start()


def caught() -> bool:
    """Whether this process is a command's, and not a notebook's or another program's."""
    return _process.caught


def cause() -> BaseException | None:
    """Why the command is to end, if that was said from outside."""
    return _process.cause


def stop(error: InfrastructureError) -> None:
    """End the command with this error, from whichever thread; without effect while it ends already."""
    with _process.lock:
        if _process.cause is not None:
            return
        _process.cause = error
    for number in _SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, signal.SIG_DFL, None):
            # Wakes a main thread that waits in the kernel, and the thread that watches it.
            signal.pthread_kill(threading.main_thread().ident or 0, number)
            return
    _end()


def told() -> None:
    """The one line that says how the command ended has been printed."""
    _process.told = True


def before_a_hard_end(word: Callable[[BaseException], None]) -> Callable[[], None]:
    """Have the cause told to ``word`` before the process is ended by force; returns a function that takes it back."""
    _process.last_words.append(word)
    return lambda: _process.last_words.remove(word) if word in _process.last_words else None


def before_the_end(deed: Callable[[], None]) -> None:
    """Have it done before the process ends without cleaning up."""
    if deed not in _process.last_deeds:
        _process.last_deeds.append(deed)


def do_last_deeds() -> None:
    """Do what must be done before the process ends without cleaning up, such as to end those that it started."""
    with _process.deeds:
        while _process.last_deeds:
            with suppress(Exception):
                _process.last_deeds.pop()()


def _set(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _raise(_signal: int, _frame: FrameType | None) -> None:
    """Raise once: a second signal must not end what cleans up; if it is one of its own, the watching thread ends all."""
    with _process.lock:
        if _process.raised:
            return
        _process.raised = True
        if _process.cause is None:
            _process.cause = KeyboardInterrupt()
    raise KeyboardInterrupt  # libraries log other exceptions, and go on


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """While the command's modules are imported there is nothing to clean up."""
    _end()
    raise KeyboardInterrupt


def _watch(reading: socket.socket) -> None:
    """Wait for the first event, and for the main thread to leave then; end the process if it does not.

    Signals at once are one event: whoever ends a process group reaches the command twice.
    """
    ends: float | None = None
    while True:
        ready, _, _ = select.select([reading], [], [], None if ends is None else max(0.0, ends - time.monotonic()))
        if ready:
            time.sleep(_AT_ONCE)
        events = sum(number in _SIGNALS for number in reading.recv(64)) if ready else 0
        if ready and not events:
            continue
        if ends is not None:
            _end()
        ends = time.monotonic() + GRACE


def _end() -> None:
    why = _process.cause or KeyboardInterrupt()
    thread = threading.Thread(target=_say_last, args=(why,), daemon=True)
    thread.start()
    thread.join(_LAST_WORDS)
    do_last_deeds()
    lost = isinstance(why, InfrastructureError)
    if not _process.told:
        with suppress(OSError):
            os.write(_process.stderr, f"fairsynth: {why if lost else MESSAGE}\n".encode("utf-8", "backslashreplace"))
    os._exit(InfrastructureError.exit_code if lost else INTERRUPTED)


def _say_last(why: BaseException) -> None:
    for word in list(_process.last_words):
        with suppress(Exception):
            word(why)


def _is_a_commands() -> bool:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    name = str(spec.name) if spec is not None else Path(sys.argv[0] if sys.argv else "").name
    return name in _COMMANDS or name.startswith("jobs.")


if _is_a_commands():
    _set(_leave)
