"""Views: what people see in the output folder, laid out from the artifacts, complete or as it was."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fairsynth.artifacts import Artifact
from fairsynth.errors import ConfigError
from fairsynth.run_folder.files import copy_file, is_file, is_folder, read_text
from fairsynth.run_folder.files import write_text as write_text
from fairsynth.run_folder.mark import take_name
from fairsynth.run_folder.views import CONTENTS, clear_private, replace_view
from fairsynth.store.mirror import newest, sent, tree_sent

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


def put_export(private: Path, target: Path, is_export: Callable[[Path], bool]) -> None:
    """Put a filled folder in the place of ``target``; an earlier export there is removed.

    That is moved aside and looked at once more first: files may have come since. Raises ConfigError if some have, or if
    another folder came; nothing is lost.
    """
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with suppress(FileNotFoundError):
            target.rename(aside)
        if aside.exists() and not is_export(aside):
            aside.rename(target)
            raise ConfigError(f"other files came into {target} while it was exported to; give a new folder with --to")
        private.rename(target)
    except OSError as error:
        kept = f"; what was there is in {aside}" if aside.exists() else ""
        raise ConfigError(
            f"cannot write to {target}: {error.strerror}{kept}; choose another folder with --to"
        ) from error
    shutil.rmtree(aside, ignore_errors=True)


def is_current(target: Path, artifact: Artifact) -> bool:
    """True if the view was laid out from this artifact, not from another config's run in the same output folder."""
    try:
        mark = newest(target / _MARK)
        return is_folder(target) and read_text(mark) == artifact.fingerprint
    except (OSError, ValueError):
        return False


def publish(private: Path, target: Path, artifact: Artifact) -> None:
    """Replace a view by a complete new one. Views can always be rebuilt from the artifacts.

    Raises ConfigError if what is there, or something in it, was not made by fairsynth.
    """
    write_text(private / _MARK, artifact.fingerprint)
    replace_view(private, target)
    tree_sent(target, last=_MARK, first=CONTENTS)


def place(source: Path, target: Path) -> None:
    """Copy a file so that the target is old or new, never half.

    Raises ConfigError if what is there was not made by fairsynth.
    """
    take_name(target.parent, target.name)
    clear_private(target)
    private = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    copy_file(source, private)
    private.replace(target)
    sent(target)


def same(source: Path, target: Path) -> bool:
    """Whether a file that was laid out is that of this artifact, and not of another config's run."""
    return is_file(newest(target)) and target.read_bytes() == source.read_bytes()
