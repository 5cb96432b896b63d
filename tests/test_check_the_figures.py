"""The code of docs/check-the-figures.md where an attribute lacks a label: all figures but the one that the page names."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.groups import Group
from fairsynth.metrics import more_figures, score

PAGE = Path(__file__).parents[1] / "docs" / "check-the-figures.md"
# Label, attribute, predicted: the page's example.
IMAGES = [("0", "a", "1")] * 2 + [("1", "a", "1")] * 2 + [("1", "b", "1"), ("1", "b", "0")]
TRAIN = Counter({Group("0", "a"): 5, Group("1", "a"): 3, Group("1", "b"): 2})


def table() -> pa.Table:
    rows = [
        {
            "method": "m",
            "seed": 0,
            "label": y,
            "attribute": a,
            "predicted": p,
            "probabilities": [0.2, 0.8][:: int(p) * 2 - 1],
        }
        for y, a, p in IMAGES
    ]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def found(tmp_path: Path) -> Any:
    """What the page's code prints of such predictions."""
    pq.write_table(table(), tmp_path / "predictions.parquet")
    train = [{"label": g.label, "attribute": g.attribute, "n": n} for g, n in TRAIN.items()]
    (tmp_path / "report.json").write_text(json.dumps({"dataset": {"train": train}}), "utf-8")
    (code,) = re.findall(r"```python\n(import json\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("runs/demo", str(tmp_path)), names)
    return names["audit"].iloc[0]


def test_equalised_odds_differ_as_the_page_says(found: Any) -> None:
    ours = more_figures(table(), ["0", "1"])["m"]["equalized_odds_difference"]
    assert (found.equalized_odds_difference, ours) == (1.0, [0.5])
    assert "fairlearn says 1.0 (1 against 0), the report 0.5" in PAGE.read_text("utf-8")


def test_all_other_figures_are_those_of_the_report(found: Any) -> None:
    more = more_figures(table(), ["0", "1"])["m"]
    for name in ("ece", "balanced_accuracy", "worst_class_accuracy"):
        assert found[name] == pytest.approx(more[name][0]), name
    groups = [Group(y, a) for y, a, _ in IMAGES]
    scores = score([y == p for y, _, p in IMAGES], groups, [Group(y, a) for y in "01" for a in "ab"], TRAIN)
    for name in ("worst_group_accuracy", "accuracy", "accuracy_group_mean", "accuracy_train_prior"):
        assert found[name] == pytest.approx(getattr(scores, name)), name
