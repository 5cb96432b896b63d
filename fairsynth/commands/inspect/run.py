"""The command inspect: reads a dataset as a run would, streams its images and reports; writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairsynth.commands.inspect.findings import inspect
from fairsynth.config import RunConfig
from fairsynth.data.dataset import levelled, survey
from fairsynth.data.layout import not_named
from fairsynth.data.metadata import Metadata
from fairsynth.data.recognise import recognise
from fairsynth.data.storage import Storage
from fairsynth.engine.session import session_of
from fairsynth.engine.units import stream
from fairsynth.errors import DataError
from fairsynth.preflight import check_words, values_of, worded
from fairsynth.stages.ingest.content import CHECKED, LOOK, CheckImages
from fairsynth.stages.ingest.step import FEW, INGEST_UNIT


def inspect_dataset(config: RunConfig) -> dict[str, Any]:
    """The findings in the configured dataset (``commands.inspect.findings.inspect``), with ``root`` and ``format``.

    Raises DataError if the metadata cannot be read at all.
    """
    if config.data.format != "demo":
        return _inspect(config, config.data.root)
    from fairsynth.demo import dataset

    with tempfile.TemporaryDirectory() as folder:
        root = dataset.write(Path(folder) / "demo", seed=config.seed)
        data = config.data.model_copy(update={"format": "folder", "root": str(root)})
        return _inspect(config.model_copy(update={"data": data}), "demo")


def _inspect(config: RunConfig, shown_root: str) -> dict[str, Any]:
    data = config.data
    storage = Storage(data.root, data.follow_links)
    name = recognise(storage) if data.format == "auto" else data.format
    metadata = survey(data.model_copy(update={"format": name}), storage)
    check_words(worded(config, metadata), *values_of(metadata))
    unnamed = not_named(storage, metadata)
    try:
        _, metadata = levelled(data, metadata)
    except DataError as error:
        metadata = replace(metadata, problems=[*metadata.problems, str(error)])
    findings = inspect(worded(config, metadata), metadata, _checked(config, storage, metadata), unnamed)
    return {"root": shown_root, "format": name, **findings}


def _checked(config: RunConfig, storage: Storage, metadata: Metadata) -> pa.Table:
    """A row for each image, ordered by path; only these rows are held, never the images."""
    work = CheckImages(storage, config.data.images, look=True)
    if len(metadata.entries) <= FEW:
        tables = [
            pa.schema([*CHECKED, *LOOK]).empty_table(),
            *(work({"rows": rows})["checked"] for rows in _batches(metadata)),
        ]
    else:
        # Workers that look at images need neither torch nor models.
        with session_of(config.resources.model_copy(update={"fork_workers": "never"})) as session:
            tables = list(stream(session, "inspect", _batches(metadata), work))
    return pa.concat_tables(tables).sort_by("path")


def _batches(metadata: Metadata) -> Iterator[list[dict[str, str]]]:
    rows = sorted((entry.path, entry.location) for entry in metadata.entries)
    for start in range(0, len(rows), INGEST_UNIT):
        yield [{"path": path, "location": location} for path, location in rows[start : start + INGEST_UNIT]]
