"""Rules for the rows of a dataset: none twice, none without a label or an attribute."""

from __future__ import annotations

from collections import Counter

from fairsynth.config import DataConfig
from fairsynth.data.metadata import Entry, Found, Metadata, SetAside
from fairsynth.data.rules.split_words import meaning
from fairsynth.escaping import printable

UNKNOWN = "unknown"


def without_repeats(config: DataConfig, metadata: Metadata) -> Metadata:
    """Merge equal rows; for a file with different rows the dataset is refused."""

    def said(entry: Entry) -> Entry:
        return entry._replace(split=meaning(entry.split, config.split_names) or entry.split)

    found, seen = Found(metadata), dict[str, Entry]()
    for entry in metadata.entries:
        first = seen.setdefault(entry.path, entry)
        if first is entry:
            found.entries.append(entry)
        elif said(first) == said(entry):
            found.excluded.append(SetAside(entry.path, "equal_row"))
        else:
            problem = f"the metadata gives {entry.path!r} twice with different label, attribute or split; keep one of the rows"
            found.refuse(entry.path, "different_rows", problem)
    return found.metadata


def without_unknown(config: DataConfig, metadata: Metadata) -> Metadata:
    """Apply ``data.unknown`` to rows whose label or attribute is empty."""
    checked = (("label", 2), ("attribute", 3)) if config.attribute == "column" else (("label", 2),)
    found, refused = Found(metadata), set[str]()
    for what, index in checked:
        values = Counter(str(entry[index]) for entry in metadata.entries)
        empty = sum(n for value, n in values.items() if not value.strip())
        if empty and (config.unknown == "refuse" or (config.unknown == "own_group" and what == "label")):
            found.problem(f"unknown_{what}", _message(what, empty, values))
            refused.add(what)
        elif empty and UNKNOWN in values and config.unknown == "own_group":
            found.problem(
                "unknown",
                f"{empty} rows have no {what}, and {UNKNOWN!r} is already a value of it; use data.unknown drop",
            )
    for entry in metadata.entries:
        lacking = next((what for what, index in checked if not str(entry[index]).strip()), None)
        if lacking is None:
            found.entries.append(entry)
        elif lacking == "attribute" and config.unknown == "own_group":
            found.entries.append(entry._replace(attribute=UNKNOWN))
        else:
            away = found.quarantined if lacking in refused else found.excluded
            away.append(SetAside(entry.path, f"unknown_{lacking}"))
    return found.metadata


def _message(what: str, empty: int, values: Counter[str]) -> str:
    counts = ", ".join(f"{printable(value)!r} {n}" for value, n in values.most_common(8) if value.strip())
    ways = "drop" if what == "label" else "drop or own_group"
    return (
        f"{empty} rows have an empty {what} (values: {counts or 'none'}); fill it in, or set --data.unknown to {ways}"
    )
