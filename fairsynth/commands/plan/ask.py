"""Asks a person at a terminal before a long run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fairsynth.console import say

if TYPE_CHECKING:
    from fairsynth.config import RunConfig
    from fairsynth.data.metadata import Metadata


def agreed(config: RunConfig, root: Path, metadata: Metadata | None, most_minutes: float, price: float | None) -> bool:
    """Whether a run may begin: always, but at a terminal a person is asked if it is estimated above so many minutes.

    ``config`` and ``metadata`` as the run has them. Raises OutputLockedError, before it asks, if the folder is in use.
    """
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        return True
    from fairsynth.commands.plan.look import of_metadata
    from fairsynth.commands.plan.plan import make_plan
    from fairsynth.commands.plan.run import layout_of
    from fairsynth.commands.plan.text import duration, lines
    from fairsynth.lock import check_free

    check_free(root)
    plan = make_plan(config, root, of_metadata(config, metadata), metadata, None)
    likely = plan.seconds()[1]
    if plan.done or likely <= 60 * most_minutes:
        return True
    say("\n".join(lines(plan, layout_of(config), price)))
    say(f"\nAbout {duration(likely)} is more than --confirm-above {most_minutes:g} minutes (--yes never asks).")
    try:
        return input("go on? [y/N] ").strip().casefold() in ("y", "yes")
    except EOFError:
        return False
