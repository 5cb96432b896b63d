"""The command predict: a table of what a run's classifier sees in every image of a folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.commands.predict.classify import PREDICTED, PredictImages, load
from fairsynth.config import ResourcesConfig
from fairsynth.data.image_names import is_image_file
from fairsynth.data.storage import Storage
from fairsynth.engine.session import session_of
from fairsynth.engine.units import stream
from fairsynth.errors import ConfigError, DataError
from fairsynth.exports.formats import inert

BATCH = 64
FEW = 2048  # up to this many images, classifying takes less time than starting Ray
_KINDS = (".csv", ".parquet")


def predict_images(images: str, run: Path, to: Path) -> str:
    """Classify every image file below ``images`` and write the table; returns a line for people.

    Columns: path, label, probability, reason (why an image was not classified), and ``p: LABEL`` for every label.
    Raises ConfigError for a run without a classifier and for a table of another kind, DataError for a folder without
    images, or if none can be read.
    """
    if to.suffix.lower() not in _KINDS:
        raise ConfigError(f"--to {to} must end in {' or '.join(_KINDS)}")
    folder = next((path for path in (run / "classifier", run) if (path / "config.json").is_file()), None)
    if folder is None:
        raise ConfigError(f"{run} has no classifier/; finish the run first: fairsynth run ... --out {run}")
    storage, folder = Storage(images), folder.resolve()  # workers have folders of their own
    rows = [{"path": file.path, "location": file.location} for file in storage.files() if is_image_file(file)]
    if not rows:
        raise DataError(f"{images} holds no image files")
    table = pa.concat_tables(_predicted(rows, PredictImages(storage, folder))).sort_by("path")
    labels = load(folder).labels
    _write(table, labels, to)
    bad = table.filter(pc.not_equal(table["reason"], ""))
    if len(bad) == len(table):
        raise DataError(
            f"none of {len(table)} images can be read, first: {bad['path'][0]} ({bad['reason'][0]}); see {to}"
        )
    counts = {c["values"]: c["counts"] for c in pc.value_counts(table["label"]).to_pylist() if c["values"]}
    seen = ", ".join(f"{label} {counts.get(label, 0)}" for label in labels)
    return f"{len(table)} images in {to}: {seen}" + (f"; {len(bad)} cannot be read (column reason)" if len(bad) else "")


def _predicted(rows: Sequence[dict[str, str]], work: PredictImages) -> list[pa.Table]:
    batches: Iterator[list[dict[str, Any]]] = (list(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH))
    if len(rows) <= FEW:
        return [work({"rows": batch})["predicted"] for batch in batches]
    with session_of(ResourcesConfig()) as session:
        return list(stream(session, "predict", batches, work))


def _write(table: pa.Table, labels: Sequence[str], to: Path) -> None:
    """Write by a rename, so that the table is old or complete."""
    columns = {name: table[name] for name in PREDICTED.names if name != "probabilities"}
    of_label = list(zip(*table["probabilities"].to_pylist(), strict=True))
    columns |= {f"p: {label}": pa.array(values, pa.float32()) for label, values in zip(labels, of_label, strict=True)}
    to.parent.mkdir(parents=True, exist_ok=True)
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
