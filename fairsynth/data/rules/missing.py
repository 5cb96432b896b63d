"""Files that a dataset names and that are not there by that name: found under another spelling, or left out."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from fairsynth.data.layout import not_named
from fairsynth.data.metadata import Found, Metadata, SetAside
from fairsynth.data.rules.why_missing import why_missing
from fairsynth.data.storage import Storage

_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
_SLASHES, _FORM = "with backslashes", "in another Unicode form (NFC, NFD)"


def respelled(storage: Storage, metadata: Metadata) -> Metadata:
    """Correct names that can mean one file alone, each kind with a remark.

    These are: Windows' backslashes, another Unicode form than the disk's, and the dataset folder's own name in front.
    Only names with such a mark are looked for, so that others cost nothing.
    """
    own = f"{(storage.local.resolve() if storage.local else PurePosixPath(storage.root.rstrip('/'))).name}/"
    odd = [entry for entry in metadata.entries if _is_odd(entry.path, own) and not entry.location]
    if not odd:
        return metadata
    others = {entry.path: dict(_others(entry.path, own)) for entry in odd}
    there = storage.stamp({*others, *(name for its in others.values() for name in its)})
    names, changed = dict[str, str](), Counter[str]()
    rows = {entry.path for entry in metadata.entries}
    for entry in odd:
        if there[entry.path] is None:
            right = {name: what for name, what in others[entry.path].items() if there[name] is not None}
            # A file in another Unicode form that has a row of its own is another file.
            right = {name: what for name, what in right.items() if what != _FORM or name not in rows}
            if len(right) == 1:
                names[entry.path] = next(iter(right))
                changed[right[names[entry.path]]] += 1
    found = Found(metadata)
    found.entries += [entry._replace(path=names.get(entry.path, entry.path)) for entry in metadata.entries]
    for what, n in changed.items():
        found.remarks.append(f"{n} images are named {what}: the files that are meant are there, and are taken")
    return found.metadata


def _is_odd(path: str, own: str) -> bool:
    return "\\" in path or not path.isascii() or path.startswith(own)


def _others(path: str, own: str) -> Iterator[tuple[str, str]]:
    """Other names that mean the same, and what differs in them."""
    slashed = path.replace("\\", "/")
    parts = PurePosixPath(slashed).parts
    if slashed.startswith("/") or ".." in parts or not parts or parts[0].endswith(":"):
        return
    plain = str(PurePosixPath(slashed))
    if "\\" in path:
        yield plain, _SLASHES
    for form in _FORMS:
        if (other := unicodedata.normalize(form, plain)) != plain:
            yield other, _SLASHES if "\\" in path else _FORM
    if plain.startswith(own):
        yield plain.removeprefix(own), f"with the dataset folder's own name, {own!r}, in front"


def left_out(storage: Storage, metadata: Metadata) -> Metadata:
    """Leave out what is named and not there: for a dataset of which a part was fetched (``data.missing_files``).

    If the files seem to be there under other names, that is a problem.
    """
    there = storage.stamp({entry.path for entry in metadata.entries if not entry.location})
    found = Found(metadata)
    for entry in metadata.entries:
        if entry.location or there[entry.path] is not None:
            found.entries.append(entry)
        else:
            found.excluded.append(SetAside(entry.path, "not_there"))
    missing = [entry.path for entry in metadata.entries if not entry.location and there[entry.path] is None]
    if missing:
        found.remarks.append(
            f"{len(missing)} of {len(metadata.entries)} images are named and not there: they are left out (data.missing_files)"
        )
        if hint := why_missing(missing, not_named(storage, metadata)):
            found.problem("missing_files", f"{hint}; data.missing_files would leave them out")
    return found.metadata
