"""Labels and attributes of images, from a table or from a dataset's own metadata."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fairsynth.config import DataConfig
from fairsynth.config.addresses import check_address
from fairsynth.config.values import plain_value, spelled
from fairsynth.data.metadata import Entry, Found, Metadata, combine
from fairsynth.data.readers.folder import file_column
from fairsynth.data.recognise import check_options, reader, recognise
from fairsynth.data.rules.missing import respelled
from fairsynth.data.rules.rows import without_repeats
from fairsynth.data.rules.split_words import CODES, meaning
from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import places, present
from fairsynth.data.tables.table import column_names, read_table
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated

_TABULAR = (".csv", ".tsv", ".jsonl", ".parquet")
# Settings of a run that say how its dataset is read: another dataset of the same layout is read alike.
_READING = ("label_column", "attribute_column", "attribute", "split_column", "split_names", "options")


class Known(NamedTuple):
    """What is known of an image; empty text where something is not."""

    label: str
    attribute: str
    split: str


@dataclass
class Truth:
    """What a table or a dataset says of images, by its own paths."""

    source: str
    root: Storage
    """From which its paths count."""
    known: dict[str, Known]
    set_aside: dict[str, str] = field(default_factory=dict)
    """Images of which it says nothing that can be used, with the reason."""
    entries: tuple[tuple[str, str], ...] = ()
    """Path and location of the images that lie inside its shards or tables."""
    has: tuple[str, ...] = ("label", "attribute")
    """What it knows of images at all."""


def read_truth(source: str, data: DataConfig, of_run: Mapping[str, Any]) -> Truth:
    """Read a table (.csv, .tsv, .jsonl, .parquet) or a dataset's folder in a layout that fairsynth reads.

    ``data``: settings that were given, of which those of reading count. ``of_run``: the section ``data`` of the run's
    config; its columns are taken where none were given and they are there.
    Raises DataError: not there, not readable, no column of file names, neither label nor attribute.
    """
    check_address(source)
    if source.lower().endswith(_TABULAR) and not os.path.isdir(source):
        folder, _, name = source.rpartition("/")
        return _of_table(source, Storage(folder or ("/" if source.startswith("/") else ".")), name, data, of_run)
    return _of_folder(source, Storage(source, data.follow_links), data, of_run)


def matched(truth: Truth, images: Storage, paths: Collection[str]) -> tuple[dict[str, Known], dict[str, str], int]:
    """What is known of each image by its path in ``images``; for others the reason; rows without an image.

    Paths count from the folder of the table or dataset, else from that of the images.
    """
    there, known, reasons, without = set(paths), dict[str, Known](), dict[str, str](), 0
    candidates = _Candidates(truth.root, images)
    for path, facts in truth.known.items():
        place = next((name for name in candidates(path) if name in there), None)
        if place is None:
            without += 1
        elif known.setdefault(place, facts) != facts:
            reasons[place] = "different_rows"
    for path, reason in truth.set_aside.items():
        reasons |= {name: reason for name in candidates(path) if name in there and name not in known}
    for path in there - known.keys() - reasons.keys():
        reasons[path] = "no_row"
    return {path: facts for path, facts in known.items() if path not in reasons}, reasons, without


class _Candidates:
    """The places inside a folder of images that a path may mean, the likeliest first."""

    def __init__(self, truth: Storage, images: Storage) -> None:
        self.truth, self.images = _root(truth), _root(images)

    def __call__(self, path: str) -> Iterator[str]:
        full = path if path.startswith("/") else f"{self.truth}/{path}"
        if full.startswith(f"{self.images}/"):
            yield full.removeprefix(f"{self.images}/")
        yield path


def _root(storage: Storage) -> str:
    return str(storage.local.resolve()) if storage.local is not None else storage.full("").rstrip("/")


def _of_table(source: str, root: Storage, table: str, data: DataConfig, of_run: Mapping[str, Any]) -> Truth:
    if not root.is_file(table):
        raise DataError(
            f"{source} does not exist; --truth takes a table with path, label and attribute, or a dataset's folder"
        )
    header = column_names(root, table)
    of_runs = str((of_run.get("options") or {}).get("file_column") or "")
    known = of_runs if of_runs and present(header, (of_runs,)) else ""
    name = data.options.get("file_column") or known or file_column(header) or _first(header, ("path", "image"))
    if not name:
        raise DataError(
            f"{source} has no column of file names; it has: {enumerated(header)}; needed: path or file_name; if another "
            "column names the files: --data.options '{file_column: COLUMN}'"
        )
    label = _asked(source, header, (data.label_column,) if data.label_column else ()) or _usual(
        header, (of_run.get("label_column"),), "label"
    )
    attributes = _asked(source, header, data.attribute_column) or _usual(
        header, of_run.get("attribute_column") or (), "attribute"
    )
    if not label and not attributes:
        raise DataError(
            f"{source} has neither a column label nor attribute; it has: {enumerated(header)}; if others are meant: "
            "--data.label_column COLUMN --data.attribute_column COLUMN"
        )
    column = (
        data.split_column if "split_column" in data.model_fields_set else of_run.get("split_column", data.split_column)
    )
    split = next(iter(present(header, [name for name in (column, data.split_column) if name])), "")
    found = Found()
    for _, row in read_table(root, table, (name, *label, *attributes), found, (split,) if split else ()):
        path = row[name].replace("\\", "/")
        attribute = combine(attributes, [plain_value(row[a]) for a in attributes]) if attributes else ""
        text = plain_value(row[label[0]]) if label else ""
        found.entries.append(Entry(_tidy(path), row.get(split, "").strip(), text, attribute))
    has = (*(["label"] if label else ()), *(["attribute"] if attributes else ()))
    return _truth(source, root, without_repeats(data, found.metadata), data, has)


def _tidy(path: str) -> str:
    return str(PurePosixPath(path)) if path else ""


def _first(header: Sequence[str], wanted: Sequence[str]) -> str:
    """The first of the wanted columns that is there, as the table spells it."""
    spellings = {spelled(name): name for name in reversed(header)}
    return next((spellings[name] for name in wanted if name in spellings), "")


def _asked(source: str, header: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Columns that were asked for. Raises DataError if one is not there."""
    places(source, header, columns)
    return tuple(columns)


def _usual(header: Sequence[str], of_run: Sequence[str | None], name: str) -> tuple[str, ...]:
    columns = [column for column in of_run if column]
    if columns and len(present(header, columns)) == len(columns):
        return tuple(columns)
    return (name,) if present(header, (name,)) else ()


def _of_folder(source: str, root: Storage, data: DataConfig, of_run: Mapping[str, Any]) -> Truth:
    layout = _layout(root, of_run) if data.format == "auto" else data.format
    its = {"demo": "folder"}.get(of_run.get("format", ""), of_run.get("format", ""))
    alike = {key: of_run[key] for key in _READING if key in of_run} if its in ("auto", layout) else {}
    given = {key: getattr(data, key) for key in data.model_fields_set}
    config = DataConfig.model_validate(alike | given)
    check_options(config, layout)
    metadata = without_repeats(config, respelled(root, reader(layout).read(root, config)))
    has = ("label", "attribute") if any(e.attribute or e.true_attribute for e in metadata.entries) else ("label",)
    return _truth(source, root, metadata, config, has)


def _layout(root: Storage, of_run: Mapping[str, Any]) -> str:
    """The folder's layout; that of the run's dataset if the tables that were named for it are there."""
    tables = (of_run.get("options") or {}).get("table") or ()
    named = [tables] if isinstance(tables, str) else [*tables]
    return "folder" if named and of_run.get("format") == "folder" and all(map(root.is_file, named)) else recognise(root)


def _truth(source: str, root: Storage, metadata: Metadata, config: DataConfig, has: tuple[str, ...]) -> Truth:
    words = {entry.split for entry in metadata.entries}
    meant = {word: meaning(word, config.split_names) or word for word in words}
    if words == {*CODES}:
        meant = dict(CODES)
    known = {
        e.path: Known(e.label if e.label.strip() else "", (e.attribute or e.true_attribute).strip(), meant[e.split])
        for e in metadata.entries
    }
    aside = {image.path: image.reason for image in (*metadata.excluded, *metadata.quarantined)}
    aside = {path: reason for path, reason in aside.items() if reason != "equal_row"}
    for path in [path for path in known if path in aside]:
        del known[path]
    inside = tuple((e.path, e.location) for e in metadata.entries if e.location.startswith(("tar:", "parquet:")))
    return Truth(source, root, known, aside, inside, has)


def looks_labelled(images: str, labels: Collection[str], paths: Sequence[str]) -> bool:
    """Whether a folder of images looks like a dataset that ``read_truth`` reads, so that people can be told."""
    try:
        layout = recognise(Storage(images))
    except DataError:
        return False
    return layout != "classfolder" or any({*Path(path).parts[:-1]} & {*labels} for path in paths)
