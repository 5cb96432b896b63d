"""Do the files of the results open: adapters, classifier, tables, and some of the synthetic images?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from fairsynth.config import ANY_IMAGE
from fairsynth.data.decode import decode
from fairsynth.data.metadata import BadImage
from fairsynth.data.samples import sample
from fairsynth.stages.evaluate.output import classifier_folder, predictions_file
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.synthesize.output import TABLE, read_files
from fairsynth.stages.tune.output import TRIALS

LOOKED_AT = 24


def unreadable(inputs: Inputs, accepted: Sequence[str]) -> tuple[list[str], str]:
    """What does not open, a line each, and what was opened, in words. ``accepted``: ids of accepted images.

    Weights are read as far as their header, which must fit the file's length.
    """
    finetuned, evaluated = inputs.artifacts["finetune"], inputs.artifacts["evaluate"]
    weights = sorted(finetuned.path.glob("units/*/*.safetensors"))
    classifier = sorted(classifier_folder(evaluated, "fairsynth", 0).rglob("*.safetensors"))
    problems = [problem for file in [*weights, *classifier] if (problem := _weights(file))]
    tables = [predictions_file(evaluated), inputs.artifacts["tune"].path / TRIALS]
    problems += [f"{table.name} is empty or not there" for table in tables if not _filled(table)]
    if "fairsynth" in inputs.config.tune.methods and not classifier:
        problems.append("the classifier has no weights")
    ids = sample(accepted, LOOKED_AT)
    problems += _images(inputs, ids)
    parts = [f"{len(weights)} files of adapters", f"{len(classifier)} of the classifier", "predictions and trials"]
    return problems, f"{', '.join(parts)}; {len(ids)} of {len(accepted)} synthetic images"


def _weights(file: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as tensors:
            return "" if list(tensors.keys()) else f"{file.parent.name}/{file.name} has no weights"
    except (OSError, SafetensorError) as error:
        return f"{file.parent.name}/{file.name} does not open ({error})"


def _filled(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


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
