"""The audit of a set that lacks groups, or has no image: figures of what is there, and no word of what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.data.vectors import vectors
from fairsynth.stages.audit.comparison import compare
from fairsynth.stages.audit.copy_audit import search_copies
from fairsynth.stages.audit.figures import warnings
from fairsynth.stages.audit.inputs import COLUMNS, Seen, embeddings_of, sampled
from fairsynth.stages.audit.output import privacy
from fairsynth.stages.embed.output import RealImages
from fairsynth.stages.synthesize.output import TABLE
from tests.support.figures import WIDTH, drawn
from tests.support.synthesize.empty_sets import ALL, stage
from tests.support.synthesize.routes import HB, LB

PASSED = {"passed": True, "threshold": 0.9, "detected": {"share": 1.0}, "false_alarms": {"share": 0.0}}
FAILED = {"passed": False, "why": "too few real images"}


def real(prefix: str, n: int, seed: int) -> RealImages:
    """So many images of each group."""
    groups = [group for group in ALL for _ in range(n)]
    ids = [f"{prefix}{i}" for i in range(len(groups))]
    return RealImages(ids, groups, drawn(len(groups), seed), np.zeros((len(groups), 32, 32, 3), np.uint8))


SEEN = Seen(real("t", 12, 0), real("k", 12, 1), real("h", 12, 2))
TEXTS = pa.table(
    {
        "label": [group.label for group in ALL],
        "attribute": [group.attribute for group in ALL],
        "embedding": vectors(drawn(len(ALL), 3)),
    }
)


def audited(folder: Path, made: tuple[Any, ...], test: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The audit's result without that of copies in images that are there, and the rows that were looked at."""
    artifact = stage(folder, made)
    rows = sampled(pq.read_table(artifact.path / TABLE, columns=COLUMNS))
    embeddings_ND = embeddings_of(artifact, rows, WIDTH) if not rows else drawn(len(rows), 4)
    assert embeddings_ND.shape == (len(rows), WIDTH)
    result = compare(rows, embeddings_ND, SEEN, [], TEXTS, 0)
    none = [row for row in rows if row["verdict"] != "accepted"]
    places = [i for i, row in enumerate(rows) if row["verdict"] != "accepted"]
    copies = search_copies(artifact, test, none, embeddings_ND[places], SEEN.train, 32)
    result["copies"] = copies | {"training_images": len(SEEN.train)}
    result["warnings"] = warnings(result)
    assert json.loads(json.dumps(result, allow_nan=False))
    return result, rows


def test_an_empty_set_has_no_figures_and_nothing_is_said_against_it(tmp_path: Path) -> None:
    result, rows = audited(tmp_path, (), PASSED)
    assert rows == [] and result["groups"] == result["clusters"] == result["shortcuts"] == result["warnings"] == []


def test_groups_that_are_there_have_figures_and_others_have_none(tmp_path: Path) -> None:
    result, rows = audited(tmp_path, (HB, LB), PASSED)
    assert len(rows) == 8
    assert [(g["label"], g["attribute"], g["synthetic"], g["held_out"]) for g in result["groups"]] == [
        ("high", "building", 3, 12),
        ("low", "building", 3, 12),
    ]
    assert [s["attribute"] for s in result["shortcuts"]] == ["building"]


@pytest.mark.parametrize("test", [PASSED, FAILED])
def test_where_there_is_no_image_there_is_no_copy(tmp_path: Path, test: dict[str, Any]) -> None:
    copies = audited(tmp_path, (), test)[0]["copies"]
    assert (copies["images"], copies["nearest"]) == (0, [])
    # Zero of zero; without a passed test nothing is said, as for any set.
    assert copies["flagged"] == (0 if test["passed"] else None)
    told = privacy({"copies": copies})
    assert (told or {}).get("copies of training images among them") == (0 if test["passed"] else None)
