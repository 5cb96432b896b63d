"""Where an export is written: to this machine, also from a run in a bucket."""

from __future__ import annotations

from pathlib import Path

from fairsynth.errors import ConfigError
from fairsynth.store.address import is_bucket
from fairsynth.store.mirror import place_of


def export_target(run: Path, to: str | None, name: str) -> Path:
    """The folder or file that ``--to`` names; ``name`` beside the run's results if it is not given.

    Raises ConfigError for one in a bucket, and for none where the run is in a bucket.
    """
    if to is not None:
        return local_path(to)
    if place_of(run):
        raise ConfigError(
            f"{run} is in a bucket, where export writes nothing; give a folder of this machine with --to, for example "
            f"--to {name}"
        )
    return run / name


def local_path(to: str) -> Path:
    """What ``--to`` names. Raises ConfigError for an address in a bucket, also a misspelt one."""
    if is_bucket(to):
        raise ConfigError(
            "--to is in a bucket, and only a folder or file of this machine can be written to; give one, and copy it to the "
            "bucket with your cloud's tool"
        )
    return Path(to)
