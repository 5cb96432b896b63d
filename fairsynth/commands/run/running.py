"""A run, as the command line and ``fairsynth.run`` both do it: check early, hold the output folder, run, tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairsynth.commands.run.place import remark
from fairsynth.commands.run.space import check_space
from fairsynth.commands.settled import settled
from fairsynth.config import RunConfig
from fairsynth.data.metadata import Metadata
from fairsynth.engine import address
from fairsynth.exhausted import told_if_exhausted
from fairsynth.lock import locked
from fairsynth.models.hub.pinning import pinned
from fairsynth.preflight import check_early, check_folders, groups_of, worded
from fairsynth.run_folder.mark import check_folder, claim
from fairsynth.store.place import output_root


@dataclass(frozen=True)
class Checked:
    """A run that nothing speaks against so far: its config with the dataset's words, its output folder, the metadata."""

    config: RunConfig
    root: Path
    metadata: Metadata | None


def checked(config: RunConfig) -> Checked:
    """Check what needs no model's weights and no Ray.

    Raises ConfigError as ``settled`` does, and ConfigError or DataError as ``preflight.check_early`` does.
    """
    root = output_root(config.out)
    check_folder(root)
    config = settled(config)
    metadata = check_early(config, root)
    return Checked(worded(config, metadata), root, metadata)


def carry_out(
    run: Checked, only: str | None, say: Callable[[str], None], max_worker_hours: float | None = None
) -> None:
    """Run the whole pipeline, or one stage, alone in the output folder; tells how it goes and what came out.

    Raises OutputLockedError if another run holds the folder, ConfigError if it is no run's, Exhausted if a disk has no room
    for it, and what ``pipeline.run`` raises.
    """
    for told in filter(None, (remark(run.root), address.remark())):
        say(told)
    with told_if_exhausted(run.root):
        check_space(run.config, run.root, run.metadata, only)
        _run(run, only, say, max_worker_hours)


def _run(run: Checked, only: str | None, say: Callable[[str], None], max_worker_hours: float | None) -> None:
    with locked(run.root):
        claim(run.root)
        if run.metadata is not None and (run.root / ".LOCK").exists():  # the lock has small letters
            check_folders(groups_of(run.config, run.metadata), case_counts=False)
        from fairsynth.pipeline import run as run_pipeline

        outcome = run_pipeline(pinned(run.config, say), only, say, run.metadata, max_worker_hours)
        # While the output is held: what is said last belongs to its log, too.
        if only in (None, "report"):
            from fairsynth.stages.report.step import summary_lines

            say("\n".join(["", *summary_lines(run.root)]))
        if not outcome.made:
            say(f"everything was finished before; nothing to do ({outcome.seconds:.1f} s)")
        else:
            say(f"done in {outcome.seconds:.0f} s")
