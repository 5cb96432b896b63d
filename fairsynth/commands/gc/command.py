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
        The output folder of a run or a bench, or s3://..., gs://...; no run may be at work in it.
    delete
        Remove what is shown.
    older_than
        Only what nothing has been written to for so many days.
    """
    return guarded(lambda: _gc(out, delete, older_than))


def _gc(out: str, delete: bool, older_than: float | None) -> int:
    from fairsynth.commands.gc.run import cleaned
    from fairsynth.store.place import output_root
    from fairsynth.store.view import read_root

    read_root(out)  # of a bucket: is a run there at all?
    say(cleaned(output_root(out), delete, older_than))
    return 0
