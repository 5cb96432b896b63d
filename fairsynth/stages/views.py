"""Views: what people see in the output folder, laid out from the artifacts, complete or as it was."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from fairsynth.artifacts import Artifact
from fairsynth.errors import ConfigError

_MARK = ".fingerprint"


def new_folder(target: Path) -> Path:
    """A private folder beside ``target`` to fill."""
    private = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    private.mkdir(parents=True)
    return private


def new_export(target: Path, is_export: Callable[[Path], bool]) -> Path:
    """A private folder beside ``target`` to fill; an earlier export there will be replaced.

    Raises ConfigError if ``target`` holds anything else, or cannot be written.
    """
    if target.exists() and not is_export(target):
        raise ConfigError(f"{target} holds other files; give a new folder with --to")
    try:
        return new_folder(target)
    except OSError as error:
        raise ConfigError(f"cannot write to {target}: {error.strerror}; choose another folder with --to") from error


def is_current(target: Path, artifact: Artifact) -> bool:
    """True if the view was laid out from this artifact, not from another config's run in the same output folder."""
    try:
        return (target / _MARK).read_text("utf-8") == artifact.fingerprint
    except OSError:
        return False


def publish(private: Path, target: Path, artifact: Artifact) -> None:
    """Replace a view by a complete new one. Views can always be rebuilt from the artifacts."""
    (private / _MARK).write_text(artifact.fingerprint, "utf-8")
    for leftover in target.parent.glob(f".{target.name}.*"):
        if leftover != private:
            shutil.rmtree(leftover, ignore_errors=True)
    if target.exists():
        target.rename(new_folder(target) / "old")
    private.rename(target)
    for leftover in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
