"""The command logs."""

from __future__ import annotations

from fairsynth.console import viewing


def logs(out: str, *, failed: bool = False, follow: bool = False) -> int:
    """Print what the runs of an output folder printed, with time and stage, and what failed.

    Parameters
    ----------
    out
        The output folder of a run or a bench; s3://... or gs://... if it is in a bucket.
    failed
        Print failures alone, with their traces: units, jobs and trials, by stage, also those that were tried again.
    follow
        Go on printing while the run goes on; Ctrl-C ends it.
    """
    return viewing(lambda: _logs(out, failed, follow))


def _logs(out: str, failed: bool, follow: bool) -> int:

    from fairsynth.commands.logs.show import show
    from fairsynth.store.view import read_root

    show(read_root(out), failed, follow)
    return 0
