"""What one rule explains of files that a dataset names and that are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from fairsynth.data.image_names import is_image
from fairsynth.data.samples import spread

# Of so many missing files the folders are tried that could be too much or lacking.
_SAMPLE = 8


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
    """Folders that all names have in front and should not have, or the other way round; the ending may differ as well."""
    explained = dict[str, int]()
    for key, more in ((str, ""), (_without_ending, ", and with another ending")):
        paths = {key(path) for path in there}
        for front in dict.fromkeys(front for path in spread(missing, _SAMPLE) for front in _fronts(path)):
            n = sum(path.startswith(front) and key(path.removeprefix(front)) in paths for path in missing)
            explained[f"without {front!r} in front{more}: remove it in the metadata"] = n
        for path in spread(missing, _SAMPLE):
            ends = [other.removesuffix(key(path)) for other in paths if other.endswith(f"/{key(path)}")]
            for front in sorted(ends)[:_SAMPLE]:
                n = sum(front + key(other) in paths for other in missing)
                explained[f"with {front!r} in front{more}: add it in the metadata"] = n
    return explained


def _fronts(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: i + 1]) + "/" for i in range(len(parts) - 1)]
