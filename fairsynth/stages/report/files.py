"""Do the files of the results open: adapters, classifier, tables, and some of the synthetic images?"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.config import ANY_IMAGE
from fairsynth.data.decode import decode
from fairsynth.data.metadata import BadImage
from fairsynth.data.samples import sample
from fairsynth.stages.cluster.output import CLUSTERS
from fairsynth.stages.evaluate.output import classifier_folder, predictions_file
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.synthesize.output import TABLE, read_files
from fairsynth.stages.tune.output import TRIALS

LOOKED_AT = 24


def unreadable(inputs: Inputs, accepted: Sequence[str]) -> tuple[list[str], str]:
    """What does not open, a line each, and what was opened, in words. ``accepted``: ids of accepted images.

    Weights are read as far as their header, which must fit the file's length; Parquet tables as far as their footer, and
    what must have rows has some; of the trials' table every row is read, and it has one for each trial.
    """
    finetuned, evaluated = inputs.artifacts["finetune"], inputs.artifacts["evaluate"]
    units = finetuned.units()
    units.here(units.done())
    weights = sorted(file for name in units.done() for file in units[name].glob("*.safetensors"))
    classifier = sorted(classifier_folder(evaluated, "fairsynth", 0).rglob("*.safetensors"))
    problems = [problem for file in [*weights, *classifier] if (problem := _weights(file))]
    tables = _tables(inputs)
    problems += [problem for table, has_rows in tables.items() if (problem := _table(table, has_rows))]
    problems += [problem] if (problem := _trials(inputs.artifacts["tune"].path)) else []
    if "fairsynth" in inputs.config.tune.methods and not classifier:
        problems.append("the classifier has no weights")
    ids = sample(accepted, LOOKED_AT)
    problems += _images(inputs, ids)
    parts = [
        f"{len(weights)} files of adapters",
        f"{len(classifier)} of the classifier",
        f"{len(tables)} tables and the trials",
    ]
    return problems, f"{', '.join(parts)}; {len(ids)} of {len(accepted)} synthetic images"


def _weights(file: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as tensors:
            return "" if list(tensors.keys()) else f"{file.parent.name}/{file.name} has no weights"
    except (OSError, SafetensorError) as error:
        return f"{file.parent.name}/{file.name} does not open ({error})"


def _tables(inputs: Inputs) -> dict[Path, bool]:
    """The stages' Parquet tables, each with whether it must have rows."""
    ingested, embedded, clustered, synthesized = (
        inputs.artifacts[name] for name in ("ingest", "embed", "cluster", "synthesize")
    )
    return {
        predictions_file(inputs.artifacts["evaluate"]): True,
        ingested.path / "manifest.parquet": True,
        ingested.path / "quarantine.parquet": False,
        ingested.path / "excluded.parquet": False,
        embedded.path / "quarantine.parquet": False,
        **{embedded.units()[name] / "embeddings.parquet": False for name in sorted(embedded.units().done())},
        clustered.path / CLUSTERS: False,
        synthesized.path / TABLE: False,
    }


def _table(file: Path, has_rows: bool) -> str:
    try:
        rows = pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException) as error:
        return f"{file.name} does not open ({error})"
    return "" if rows or not has_rows else f"{file.name} has no rows"


def _trials(folder: Path) -> str:
    """What is wrong with tune's table for people, which is made from its ``trials.json``."""
    try:
        wanted = len(json.loads((folder / "trials.json").read_text("utf-8")))
        rows = sum(1 for _ in csv.DictReader(io.StringIO((folder / TRIALS).read_text("utf-8")), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        return f"{TRIALS} or trials.json does not open ({error})"
    return "" if rows == wanted else f"{TRIALS} has {rows} rows, not {wanted}"


def _images(inputs: Inputs, ids: Sequence[str]) -> list[str]:
    if not ids:
        return []
    synthesized = inputs.artifacts["synthesize"]
    table = pq.read_table(synthesized.path / TABLE, columns=["image_id", "unit"], filters=[("image_id", "in", [*ids])])
    files = read_files(synthesized, table.to_pylist())
    problems = []
    for image in ids:
        try:
            decode(files[image], rules=ANY_IMAGE)
        except KeyError:
            problems.append(f"synthetic image {image} is missing")
        except BadImage as bad:
            problems.append(f"synthetic image {image} does not open ({bad.reason})")
    return problems
