"""Discovered attributes in the report: their agreement with the true ones, and every method over the true groups."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairsynth.manifest import TEST, TRAIN
from fairsynth.metrics import agreement, score_methods, test_counts
from fairsynth.stages.cluster.output import read_agreement
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.report.methods import method_entry


def discovered(inputs: Inputs, predictions: pa.Table) -> dict[str, Any] | None:
    """The part ``discovered`` of report.json; None where attributes were given."""
    if inputs.config.data.attribute != "discover":
        return None
    known = read_agreement(inputs.artifacts["cluster"])
    facts: dict[str, Any] = {"kinds": inputs.config.data.discovered, "agreement": None, "true_groups": []}
    if known is None:
        return facts
    predictions = predictions.filter(pc.not_equal(pc.utf8_trim_whitespace(predictions.column("true_attribute")), ""))
    if not predictions.num_rows:
        return facts
    first = predictions.slice(0, predictions.num_rows // len(set(_runs(predictions))))
    tested = agreement(*(first.column(name).to_pylist() for name in ("label", "attribute", "true_attribute")))
    truth = predictions.set_column(
        predictions.column_names.index("attribute"), "attribute", predictions.column("true_attribute")
    )
    real = inputs.manifest.split(TRAIN)
    real = real.filter(value.strip() != "" for value in real.column("true_attribute"))
    counts = real.replaced("attribute", real.column("true_attribute")).counts()
    groups = sorted({*counts, *test_counts(truth)})
    return facts | {
        "agreement": known | {TEST: tested},
        "true_groups": [method_entry(m) for m in score_methods(truth, groups, counts)],
    }


def _runs(predictions: pa.Table) -> list[tuple[str, int]]:
    return list(zip(*(predictions.column(name).to_pylist() for name in ("method", "seed")), strict=True))
