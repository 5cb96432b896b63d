"""The bar of a terminal: one line at its end for the stage that runs. Whatever else is printed comes above it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from fairsynth.escaping import printable

if TYPE_CHECKING:
    from rich.progress import TaskID

_REDRAWN = 2  # times per second
_lock = threading.RLock()
_shown: list[Bar] = []


def at_terminal() -> bool:
    """Whether people watch: a bar goes to stderr, so stdout may be a file."""
    return _is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"


def _is_terminal(stream: TextIO | None) -> bool:
    """Of a process without a console there is no stream, and one may be closed."""
    return stream is not None and not stream.closed and stream.isatty()


class Bar:
    """The line. It is drawn while it is begun and nothing else is printed (``aside``)."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        # Of what data say nothing is markup, and no number is coloured.
        console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        columns: list[Any] = [
            TextColumn("{task.description}", markup=False, style="bold"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
        ]
        self._progress = Progress(
            *columns,
            console=console,
            transient=True,
            # What libraries print comes above the line; a stdout that is a file stays that file.
            redirect_stdout=_is_terminal(sys.stdout),
            refresh_per_second=_REDRAWN,
        )
        self._task: TaskID | None = None

    def begin(self, stage: str) -> None:
        """Draw the line of another stage, without a known end."""
        with _lock:
            self._clear()
            self._task = self._progress.add_task(printable(stage), total=None, note="")
            if self not in _shown:
                _shown.append(self)
                self._start()

    def show(self, done: float, total: int | None, note: str) -> None:
        """Say how far the stage is; drawn when its turn comes."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total or None, note=printable(note))

    def end(self) -> None:
        """Remove the line; the terminal is as it was."""
        with _lock:
            if self in _shown:
                _shown.remove(self)
                self._stop()

    def _clear(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def _start(self) -> None:
        with suppress(OSError, ValueError):
            self._progress.start()
            # A process that is killed could not show it again.
            self._progress.console.show_cursor(True)

    def _stop(self) -> None:
        with suppress(OSError, ValueError):
            self._progress.stop()


@contextmanager
def aside() -> Iterator[None]:
    """Take the line away while something is printed."""
    with _lock:
        bars = [*_shown]
        for bar in bars:
            bar._stop()
        try:
            yield
        finally:
            for bar in bars:
                bar._start()
