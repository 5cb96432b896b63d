"""Whether the disks have room for what a run is still to write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fairsynth.config import RunConfig
from fairsynth.data.metadata import Metadata
from fairsynth.errors import Exhausted
from fairsynth.exhausted import amount, free, ray_places

_NOWHERE = Path(os.devnull, "nothing")
# Bytes of a local Ray: its store of objects, which is in shared memory if that has room, and its logs.
_STORE, _LOGS = 512 * 2**20, 2**26


def check_space(config: RunConfig, root: Path, metadata: Metadata | None, only: str | None = None) -> None:
    """Raise Exhausted if a disk has less room than the run needs: the whole pipeline, or one stage of it.

    ``resources.disk_margin`` is the room that is asked for, in multiples of the plan's estimate; at 0 nothing is checked.
    """
    margin = config.resources.disk_margin
    there = free(root)
    if not margin or there is None:
        return
    # What is there already is looked up only if it matters: naming it asks for every file of the dataset.
    needed = left(config, root, metadata, only) if there < margin * left(config, _NOWHERE, metadata, only) else 0.0
    if there < margin * needed:
        raise Exhausted(
            f"the disk of {root} has {amount(there)} free, and the run is still to write about {amount(needed)}: it asks for "
            f"{margin:g} times as much; free {amount(margin * needed - there)}, choose a larger disk with --out, or go on "
            "anyway with --resources.disk_margin 0"
        )
    if not os.environ.get("RAY_ADDRESS") and (lacking := next(_lacking(), None)):
        raise Exhausted(f"{lacking}, or go on anyway with --resources.disk_margin 0")


def left(config: RunConfig, root: Path, metadata: Metadata | None, only: str | None = None) -> float:
    """Bytes that are likely still to be written below an output folder."""
    from fairsynth.commands.plan.look import of_metadata
    from fairsynth.commands.plan.plan import make_plan

    plan = make_plan(config, root, of_metadata(config, metadata), metadata, None)
    rows = {name: row for name, row in plan.rows.items() if only in (None, name) and name not in plan.finished.records}
    return sum(row.size * (1 - min(1.0, plan.cached[name] / max(1, row.units.likely))) for name, row in rows.items())


def _lacking() -> Iterator[str]:
    """What a local Ray lacks room for."""
    folder, *shared = ray_places()
    memory = max((free(place) or 0 for place in shared), default=0)
    needed = _LOGS if memory >= _STORE else _LOGS + _STORE
    there = free(folder) if folder.is_dir() else None
    if there is not None and there < needed:
        yield (
            f"Ray's folder is below {folder}, which has {amount(there)} free of the {amount(needed)} that a local Ray may take; "
            "free some, or set RAY_TMPDIR to a folder that has more, with a short path"
        )
