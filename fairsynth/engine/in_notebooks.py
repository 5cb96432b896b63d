"""In notebooks Ray Tune would show a table of its own, in place of what the cell has said so far."""

from __future__ import annotations

from typing import Any

from ray.tune import ProgressReporter
from ray.widgets.util import in_notebook


class Silent(ProgressReporter):
    """Says nothing: progress is said by ``engine.progress``."""

    def should_report(self, trials: Any, done: bool = False) -> bool:
        """Never."""
        return False

    def report(self, trials: Any, done: bool, *sys_info: str) -> None:
        """Is not called."""


def silent() -> Silent | None:
    """For ``RunConfig``; None outside of notebooks, where ``verbose`` is enough and Tune warns of a reporter."""
    return Silent() if in_notebook() else None
