"""The table of predictions as a file."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.commands.predict.classify import PREDICTED
from fairsynth.commands.predict.truth import Known
from fairsynth.exports.formats import inert

KINDS = (".csv", ".parquet")


def groups_file(table: Path) -> Path:
    """Where the figures of groups lie: beside the table."""
    return table.with_suffix(".groups.json")


def is_ours(file: Path) -> bool:
    """Whether a file is a table of predictions, or figures of groups, which may be replaced: people keep other tables, such as their labels."""
    first = [name for name in PREDICTED.names if name != "probabilities"]
    try:
        if file.suffix.lower() == ".json":
            return json.loads(file.read_text("utf-8")).keys() >= {"parts", "rows_without_image"}
        if file.suffix.lower() == ".parquet":
            return pq.read_schema(file).names[: len(first)] == first
        with open(file, encoding="utf-8", newline="") as handle:
            return next(csv.reader(handle), [])[: len(first)] == first
    except (OSError, ValueError, AttributeError, csv.Error, pa.ArrowException):
        return False


def write_table(table: pa.Table, labels: Sequence[str], to: Path, known: Mapping[str, Known] | None) -> None:
    """Write predictions (``PREDICTED``) as CSV or Parquet by the file's ending; the file is old or complete.

    Columns: path, label, probability, reason; with ``known`` also true_label, attribute, split; ``p: LABEL`` of each label.
    """
    columns = {name: table[name] for name in PREDICTED.names if name != "probabilities"}
    if known is not None:
        nothing = Known("", "", "")
        facts = [known.get(path, nothing) for path in table["path"].to_pylist()]
        for name, values in zip(("true_label", "attribute", "split"), zip(*facts, strict=True), strict=True):
            columns[name] = pa.array(values, pa.string())
    of_label = zip(*table["probabilities"].to_pylist(), strict=True)
    columns |= {f"p: {label}": pa.array(values, pa.float32()) for label, values in zip(labels, of_label, strict=True)}
    private = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        if to.suffix.lower() == ".parquet":
            pq.write_table(pa.table(columns), private)
        else:
            with open(private, "w", encoding="utf-8", newline="") as handle:
                writer = csv.writer(handle)
                writer.writerow(map(inert, columns))
                rows = zip(*(column.to_pylist() for column in columns.values()), strict=True)
                writer.writerows([inert(value) for value in row] for row in rows)
        private.replace(to)
    finally:
        private.unlink(missing_ok=True)
