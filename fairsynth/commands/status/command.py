"""The command status."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from fairsynth.console import say, viewing


def status(out: str, *, as_json: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """Say how far the run of an output folder is, who is at work there, and what to type next.

    From any shell or machine that sees the folder; a run in it is not disturbed.

    Parameters
    ----------
    out
        The output folder of a run or a bench; s3://... or gs://... if it is in a bucket.
    as_json
        Print it as JSON, for scripts.
    """
    return viewing(lambda: _status(out, as_json))


def _status(out: str, as_json: bool) -> int:
    import json

    from fairsynth.commands.status.look import look
    from fairsynth.commands.status.text import to_text
    from fairsynth.store.view import read_root

    found = look(read_root(out))
    say(json.dumps(found, indent=1) if as_json else to_text(found))
    return 0
