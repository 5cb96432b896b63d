"""The code of docs/check-the-figures.md recomputes every figure of a report from its predictions, with fairlearn alone."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "check-the-figures.md"
FIGURES = (
    *("worst_group_accuracy", "accuracy", "accuracy_group_mean", "accuracy_train_prior"),
    *("equalized_odds_difference", "ece", "balanced_accuracy", "worst_class_accuracy"),
)


@pytest.fixture(scope="module")
def audit(finished_run: Path) -> pd.DataFrame:
    (code,) = re.findall(r"```python\n(import json\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert "fairsynth" not in code and code.count("runs/demo/") == 2
    found: dict[str, Any] = {}
    exec(code.replace("runs/demo", str(finished_run)), found)
    return found["audit"]


def test_every_figure_of_the_report_is_found_again(audit: pd.DataFrame, finished_run: Path) -> None:
    report = json.loads((finished_run / "report.json").read_text("utf-8"))
    assert {method["name"] for method in report["methods"]} == set(audit.method)
    for method in report["methods"]:
        rows = audit[audit.method == method["name"]].sort_values("seed")
        assert rows.seed.tolist() == method["seeds"]
        for figure in FIGURES:
            assert rows[figure].tolist() == pytest.approx(method[figure]["per_seed"], abs=1e-6), figure
            assert rows[figure].mean() == pytest.approx(method[figure]["mean"], abs=1e-6)
        groups = pd.concat(rows.groups.tolist()).groupby(level=[0, 1])
        for group in method["groups"]:
            known = groups.mean().loc[(group["label"], group["attribute"])]
            assert (known.n, known.accuracy) == (group["n"], pytest.approx(group["accuracy"]))
        worst = groups.mean().accuracy.idxmin()
        assert worst == (method["worst_group"]["label"], method["worst_group"]["attribute"])
    # No figure of a method is left out.
    assert {k for k, v in report["methods"][0].items() if isinstance(v, dict) and "per_seed" in v} == set(FIGURES)


def test_the_averages_are_not_one_and_the_same(audit: pd.DataFrame) -> None:
    assert (audit.accuracy_train_prior - audit.accuracy).abs().max() > 0.01
    assert os.path.basename(__file__) in PAGE.read_text("utf-8")
