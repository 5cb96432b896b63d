"""The command logs."""

from __future__ import annotations

from fairsynth.console import viewing


def logs(out: str, *, failed: bool = False, follow: bool = False) -> int:
    """Print what the runs of an output folder printed, with time and stage, and what failed.

    Parameters
    ----------
    out
        The output folder of a run or a bench.
    failed
        Print failures alone, with their traces: units, jobs and trials, by stage, also those that were tried again.
    follow
        Go on printing while the run goes on; Ctrl-C ends it.
    """
    return viewing(lambda: _logs(out, failed, follow))


def _logs(out: str, failed: bool, follow: bool) -> int:

    from fairsynth.commands.logs.show import show
    from fairsynth.store.place import output_root

    show(output_root(out), failed, follow)
    return 0
