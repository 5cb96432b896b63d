"""Views below an output folder, replaced and removed: only what fairsynth laid out, and only while nothing of others is in it."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fairsynth.errors import ConfigError
from fairsynth.escaping import enumerated, printable
from fairsynth.run_folder.files import read_text, remove, write_text
from fairsynth.run_folder.mark import CONTENTS as CONTENTS
from fairsynth.run_folder.mark import take_name
from fairsynth.store.mirror import Mirror, newest, place_of

_PRIVATE = r"\.{}\.[0-9a-f]{{32}}"
# What programs and desktops leave in folders of others, of no worth to anybody.
_LITTER = {".cache", ".DS_Store", ".ipynb_checkpoints", "Thumbs.db", "desktop.ini", CONTENTS}


def replace_view(private: Path, target: Path) -> None:
    """Put a filled folder in the place of a view, the one before is removed. Views can be laid out again from the artifacts.

    Raises ConfigError if what is there, or something in it, was not made by fairsynth; then nothing has changed.
    """
    require_ours(target)
    write_text(private / CONTENTS, "\n".join(sorted(_names(private))))
    clear_private(target, private)
    if os.path.lexists(target):
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        target.rename(aside)
    private.rename(target)
    clear_private(target)


def remove_view(target: Path) -> None:
    """Remove a view that is no longer true. Raises ConfigError as ``replace_view`` does."""
    require_ours(target)
    if os.path.lexists(target):
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        target.rename(aside)
    clear_private(target)


def require_ours(target: Path) -> None:
    """Take the view's name for fairsynth. Raises ConfigError if what is there, or something in it, was not made by it."""
    take_name(target.parent, target.name)
    place = place_of(target)
    names = {*_names(target)} if place is None else {*_names_there(*place)}
    if not names and not os.path.lexists(target):
        return
    newest(target / CONTENTS)
    try:
        known = {*read_text(target / CONTENTS).split("\n")}
    except (OSError, ValueError):
        return  # versions that kept no list of names are taken at their word
    if others := sorted(names - known):
        raise ConfigError(
            f"{printable(f'{target}')} holds {enumerated(others, most=5)}, which fairsynth did not put there, and is to be replaced by what "
            "this config gives; move what is yours elsewhere, then run the same command again"
        )


def clear_private(target: Path, kept: Path | None = None) -> None:
    """Remove what killed runs left of a view beside it: names with a dot, the view's name and 32 hexadecimal digits."""
    for path in private_names(target.parent, target.name):
        if path != kept:
            remove(path)


def private_names(folder: Path, name: str = ".+") -> Iterator[Path]:
    """The private files and folders in a folder; ``name``: those of this view alone."""
    pattern = re.compile(_PRIVATE.format(name if name == ".+" else re.escape(name)))
    for entry in sorted(os.listdir(folder)):
        if pattern.fullmatch(entry):
            yield folder / entry


def _names_there(mirror: Mirror, key: str) -> Iterator[str]:
    """The same of a view in a bucket."""
    for entry in mirror.objects.walk(key):
        parts = PurePosixPath(entry.key).relative_to(key).parts
        if not _LITTER.intersection(parts):
            yield json.dumps("/".join(parts))


def _names(folder: Path) -> Iterator[str]:
    """The names of all files below a folder, as JSON has them, so that each is a line."""
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _LITTER)
        yield from (
            json.dumps(os.path.relpath(os.path.join(top, name), folder)) for name in files if name not in _LITTER
        )
