"""The command gc."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from fairsynth.console import guarded, say


def gc(out: str, *, delete: Annotated[bool, Parameter(negative=())] = False, older_than: float | None = None) -> int:
    """Show what no record of an output folder needs, and with --delete remove it; results of finished reports stay.

    Parameters
    ----------
    out
        The output folder of a run or a bench; no run may be at work in it.
    delete
        Remove what is shown.
    older_than
        Only what nothing has been written to for so many days.
    """
    return guarded(lambda: _gc(out, delete, older_than))


def _gc(out: str, delete: bool, older_than: float | None) -> int:
    from pathlib import Path

    from fairsynth.commands.gc.run import cleaned

    say(cleaned(Path(out).expanduser().resolve(), delete, older_than))
    return 0
