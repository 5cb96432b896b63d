"""What evaluate leaves: every method's predictions of the test split, from several seeds, and the classifiers."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact

PREDICTIONS = "predictions.parquet"
CLASSIFIERS = "classifiers"


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


def read_predictions(artifact: Artifact) -> pa.Table:
    """All predictions."""
    return pq.read_table(predictions_file(artifact))


def classifier_folder(artifact: Artifact, method: str, index: int) -> Path:
    """Where a training's classifier lies."""
    return artifact.path / CLASSIFIERS / training_name(method, index)
