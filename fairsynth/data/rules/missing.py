"""Files that a dataset names and that are not there by that name: found under another spelling, or explained."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote

from fairsynth.data.image_names import is_image
from fairsynth.data.metadata import Found, Metadata, SetAside
from fairsynth.data.storage import Storage

_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


def respelled(storage: Storage, metadata: Metadata) -> Metadata:
    """Correct names that can mean one file alone, each kind with a remark.

    These are: Windows' backslashes, another Unicode form than the disk's, and the dataset folder's own name in front.
    Only names with such a mark are looked for, so that others cost nothing.
    """
    own = f"{PurePosixPath(storage.root.rstrip('/')).name}/"
    odd = [entry for entry in metadata.entries if _is_odd(entry.path, own) and not entry.location]
    if not odd:
        return metadata
    there, names, changed = _lookup(storage, len(odd)), dict[str, str](), Counter[str]()
    own_rows = {entry.path for entry in metadata.entries}
    for entry in odd:
        if not there(entry.path):
            right = {name: what for name, what in _others(entry.path, own) if there(name) and name not in own_rows}
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
        yield plain, "with backslashes"
    for form in _FORMS:
        if (other := unicodedata.normalize(form, plain)) != plain:
            yield other, "with backslashes" if "\\" in path else "in another Unicode form (NFC, NFD)"
    if plain.startswith(own):
        yield plain.removeprefix(own), f"with the dataset folder's own name, {own!r}, in front"


def _lookup(storage: Storage, n: int) -> Callable[[str], bool]:
    if storage.local is not None and n < 1000:
        return storage.is_file
    paths = {file.path for file in storage.files() if not file.location}
    return paths.__contains__


def left_out(storage: Storage, metadata: Metadata) -> Metadata:
    """Leave out what is named and not there: for a dataset of which a part was fetched (``data.missing_files``)."""
    paths = {file.path for file in storage.files() if not file.location}
    found = Found(metadata)
    for entry in metadata.entries:
        if entry.location or entry.path in paths:
            found.entries.append(entry)
        else:
            found.excluded.append(SetAside(entry.path, "not_there"))
    n = len(metadata.entries) - len(found.entries)
    if n:
        found.remarks.append(
            f"{n} of {len(metadata.entries)} images are named and not there: they are left out (data.missing_files)"
        )
    return found.metadata


def why_missing(missing: Sequence[str], there: Iterable[str]) -> str:
    """What one rule explains of missing files by image files that nobody names; empty if none explains most of them.

    ``missing``: paths as the metadata has them; ``there``: paths of image files that the metadata does not name.
    """
    others = [*there]
    explained = {what: n for what, key in _RULES.items() if (n := _explained(missing, others, key))}
    explained |= {what: n for what, n in _folders(missing, others).items() if n}
    if not explained:
        return ""
    what = max(explained, key=lambda rule: explained[rule])
    n = explained[what]
    return f"{n} of {len(missing)} missing files are there {what}" if 2 * n > len(missing) else ""


def _explained(missing: Sequence[str], there: Sequence[str], key: Callable[[str], str]) -> int:
    keys = {key(path) for path in there}
    return sum(key(path) in keys for path in missing)


def _without_ending(path: str) -> str:
    return str(PurePosixPath(path).with_suffix("")) if is_image(path) else path


# Of two rules that explain equally much the first is told.
_RULES: dict[str, Callable[[str], str]] = {
    "with / in place of \\: write the paths with /": lambda path: path.replace("\\", "/"),
    "in other case (A for a): correct the names in the metadata": str.casefold,
    "with another ending (such as .png for .jpg): correct the endings in the metadata": _without_ending,
    "with %-signs decoded (such as a blank for %20): decode the names in the metadata": unquote,
    "without blanks around the name: remove them in the metadata": lambda path: path.strip().replace(" /", "/"),
    "in other case and with another ending: correct the names in the metadata": lambda p: _without_ending(p.casefold()),
}  # fmt: skip


def _folders(missing: Sequence[str], there: Sequence[str]) -> dict[str, int]:
    """Folders that all names have in front and should not have, or the other way round."""
    paths, explained = {*there}, dict[str, int]()
    first = missing[0] if missing else ""
    for depth in range(1, first.count("/") + 1):
        front = "/".join(first.split("/")[:depth]) + "/"
        explained[f"without {front!r} in front: remove it in the metadata"] = sum(
            path.startswith(front) and path.removeprefix(front) in paths for path in missing
        )
    for front in sorted({path.removesuffix(first) for path in there if path.endswith(f"/{first}")}):
        explained[f"with {front!r} in front: add it in the metadata"] = sum(front + path in paths for path in missing)
    return explained
