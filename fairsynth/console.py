"""The process around a command: its streams, what ends it, and the one line and exit code of an error."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from fairsynth import interrupts
from fairsynth.errors import BudgetReached, ConfigError, DamagedError, FairsynthError, InfrastructureError
from fairsynth.escaping import printable, shortened
from fairsynth.exhausted import exhausted
from fairsynth.interrupts import INTERRUPTED
from fairsynth.watching import log
from fairsynth.watching.bars import aside
from fairsynth.watching.redaction import redacted


class OutputClosed(InfrastructureError):
    """Nobody reads the output any more: ``| head`` has seen enough."""


def prepare_streams() -> None:
    """Let standard output and error take every character: one that their encoding lacks is escaped (``\\u732b``).

    A stream that is closed becomes the null device.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it lasts as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def in_utf8_mode() -> None:
    """Begin the process anew in Python's UTF-8 mode, if the locale gives file names another encoding.

    Datasets name their files in UTF-8, and libraries open them so: by a Latin-1 locale ``Büffel.jpg`` would be
    another file. What is printed keeps the terminal's encoding.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", getattr(sys.stdout, "encoding", "utf-8"))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def say(text: str) -> None:
    """Print lines, without characters that could steer a terminal. Tables, JSON and scripts keep every word: what is
    printed of a config or a dataset has no secret, or was refused before.

    Raises InfrastructureError if they cannot be written: a full disk, a closed pipe.
    """
    log.note(log.SAID, text)
    try:
        with aside():
            print("\n".join(map(printable, text.split("\n"))), flush=True)
    except BrokenPipeError:
        _drop_output()
        raise OutputClosed("the output cannot be written: Broken pipe") from None
    except OSError as error:
        _drop_output()
        raise InfrastructureError(f"the output cannot be written: {error.strerror or error}") from None


def complain(text: str) -> None:
    """Print a line of complaint, without secrets, cut if a value in it is very long.

    Characters that could steer a terminal are replaced.
    """
    log.note(log.COMPLAINED, text)
    with suppress(OSError, ValueError), aside():  # nobody is left to tell
        print(f"fairsynth: {shortened(printable(redacted(text)))}", file=sys.stderr, flush=True)


def guarded(work: Callable[[], int]) -> int:
    """Do the work; errors become one line and an exit code."""
    with log.one_command():
        return _guarded(work)


def viewing(work: Callable[[], int]) -> int:
    """The same for commands that only show: they end without a word when nobody reads on, or when they are interrupted."""

    def quiet() -> int:
        try:
            return work()
        except OutputClosed:
            return 0
        except KeyboardInterrupt:
            return INTERRUPTED

    return guarded(quiet)


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except FairsynthError as error:
        complain(f"{error}{_remedy(error)}")
        interrupts.told()
        return error.exit_code
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:  # the last line of defence: a bug still ends in one line and code 1
        if os.environ.get("FAIRSYNTH_DEBUG"):
            raise
        if meant := exhausted(error, None):
            complain(str(meant))
            return meant.exit_code
        what = " ".join(str(error).split())[:400]
        complain(f"internal error: {type(error).__name__}: {what} (FAIRSYNTH_DEBUG=1 shows where)")
        return 1


def _remedy(error: FairsynthError) -> str:
    """What to type next after damage that was found outside of a run, which mends it; empty if the error says it."""
    if not isinstance(error, DamagedError) or " again" in str(error) or ";" in str(error):
        return ""
    return "; run the run's command again, which makes it anew"


def interrupted() -> int:
    """Tell that something from outside ends the command; returns its exit code."""
    lost = interrupts.cause()
    complain(str(lost) if isinstance(lost, FairsynthError) else interrupts.MESSAGE)
    interrupts.told()
    return lost.exit_code if isinstance(lost, FairsynthError) else INTERRUPTED


def misused(what: str) -> int:
    """Complain of the command line; returns the exit code."""
    complain(what)
    return ConfigError.exit_code


def unwritable(error: OSError) -> int:
    """Complain of an output that cannot be written; returns the exit code."""
    complain(f"the output cannot be written: {error.strerror or error}")
    return InfrastructureError.exit_code


def leave(code: int) -> NoReturn:
    """End the process.

    A command that was interrupted, or stopped by its budget or by the loss of Ray, leaves at once: Ray's threads are still
    at work then, and tearing Ray down under them can crash. Its processes are ended with this one.
    """
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
        code = code or InfrastructureError.exit_code
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    if code in (INTERRUPTED, BudgetReached.exit_code) or interrupts.cause() is not None:
        interrupts.do_last_deeds()
        os._exit(code)
    raise SystemExit(code)


def _drop_output() -> None:
    """Send what is still in the buffer nowhere: Python writes it at the end, and would fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # a stream without a file behind it
        return
