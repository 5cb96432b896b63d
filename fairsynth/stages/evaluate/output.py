"""What evaluate leaves: every method's predictions of the test split, from several seeds, and the classifiers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact
from fairsynth.groups import Group
from fairsynth.run_folder.records import damaged

PREDICTIONS = "predictions.parquet"
CLASSIFIERS = "classifiers"
_OF_A_CLASSIFIER = ("head.safetensors", "encoder/config.json", "encoder/model.safetensors")


def training_name(method: str, index: int) -> str:
    """Name of a method's training with the seed of this index: of its unit, and of the classifier's folder."""
    return f"{method}-{index}"


def training_of(name: str) -> tuple[str, int]:
    """Method and index from a ``training_name``."""
    method, _, index = name.rpartition("-")
    return method, int(index)


def predictions_file(artifact: Artifact) -> Path:
    """The file of all predictions: method, seed, image_id, label, attribute, predicted, probabilities, ..."""
    return artifact.path / PREDICTIONS


def read_predictions(artifact: Artifact, groups: Iterable[Group], methods: Collection[str]) -> pa.Table:
    """All predictions. Raises DataError if the table is damaged, or names other groups or methods than these."""
    path = predictions_file(artifact)
    try:
        table, named = pq.read_table(path), ("method", "label", "attribute")
        found = table.select(named).group_by(named).aggregate([]).to_pylist()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise damaged(path, str(error)) from error
    known = {*groups}
    for row in found:
        if row["method"] not in methods or Group(row["label"], row["attribute"]) not in known:
            raise damaged(
                path, f"it has method {row['method']!r}, label {row['label']!r}, attribute {row['attribute']!r}"
            )
    return table


def classifier_folder(artifact: Artifact, method: str, index: int) -> Path:
    """Where a training's classifier lies."""
    return artifact.path / CLASSIFIERS / training_name(method, index)


def without_classifier(artifact: Artifact, names: Iterable[str]) -> None:
    """Take trainings back whose classifier is not there any more: a file of it was damaged, and removed."""
    artifact.bring(CLASSIFIERS)
    units = artifact.units()
    for name in units.done().intersection(names):
        folder = artifact.path / CLASSIFIERS / name
        if not all((folder / file).is_file() for file in _OF_A_CLASSIFIER):
            units.discard(name)
