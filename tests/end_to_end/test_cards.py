"""The cards of a run say what its report.json says, figure for figure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.docs.measured.results import percent
from tests.support.docs.measured.text import said, uncovered
from tests.support.docs.pages import tables


@pytest.fixture(scope="module")
def report(finished_run: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads((finished_run / "report.json").read_text("utf-8"))
    return content


def interval(bounds: Sequence[float]) -> str:
    return " to ".join(map(percent, bounds))


def test_the_classifiers_card(finished_run: Path, report: Mapping[str, Any]) -> None:
    card = (finished_run / "classifier" / "README.md").read_text("utf-8")
    (ours,) = [method for method in report["methods"] if method["name"] == "fairsynth"]
    train = {(group["label"], group["attribute"]): group["n"] for group in report["dataset"]["train"]}
    rows = [
        [
            *(group["label"], group["attribute"], str(train[group["label"], group["attribute"]]), str(group["n"])),
            *(percent(group["accuracy"]), interval(group["ci95"])),
        ]
        for group in ours["groups"]
    ]
    figures = {
        "worst-group accuracy": ours["worst_group_accuracy"],
        "accuracy": ours["accuracy"],
        "mean of the groups": ours["accuracy_group_mean"],
    }
    means = [
        [name, percent(figure["per_seed"][0]), percent(figure["mean"]), interval(figure["ci95"])]
        for name, figure in figures.items()
    ]
    assert (tables(card)[0][2:], tables(card)[1][2:]) == (rows, means)
    sayings = [
        *(f"| {' | '.join(row)} |" for row in [*rows, *means]),
        said("expected calibration error on test images is {}.", f"{ours['ece']['mean']:.3f}"),
    ]
    # Nothing is left out, and no figure is there that the report does not have.
    assert uncovered(card, sayings) == ([], [])


def test_the_sets_card(finished_run: Path, report: Mapping[str, Any]) -> None:
    card = (finished_run / "synthetic" / "README.md").read_text("utf-8").replace("\\", "")
    shown = [[row[0], row[1], *row[2:5], row[6]] for row in tables(card)[0][2:]]
    assert shown == [
        [
            group["label"],
            group["attribute"],
            *(str(group[figure]) for figure in ("real", "accepted", "quota")),
            ", ".join(f"{reason} {count}" for reason, count in sorted(group["rejected"].items())) or "0",
        ]
        for group in report["groups"]
    ]
    accepted, made = (sum(group[figure] for group in report["groups"]) for figure in ("accepted", "made"))
    assert f"In all {accepted} of {made} generated images are in the set." in card
    copies = report["audit"]["copies"]
    assert f"images looked at: {copies['images']}, compared with: {copies['training']} of" in card
    assert f"copies of training images among them: {copies['flagged']}," in card


def test_the_adapters_card(finished_run: Path, report: Mapping[str, Any]) -> None:
    card = (finished_run / "adapters" / "README.md").read_text("utf-8")
    rows = tables(card)[0][2:]
    assert f"# {len(rows)} adapters for" in card
    images = {(group["label"], group["attribute"]): group["n"] for group in report["dataset"]["train"]}
    for group in {(row[0], row[1]) for row in rows}:
        of = [row for row in rows if (row[0], row[1]) == group]
        assert sum(int(row[3]) for row in of) == images[group]
    finetune = report["config"]["finetune"]
    assert f"rank {finetune['rank']}, alpha {finetune['alpha']};" in card
    assert re.search(rf"batch {finetune['batch_size']}, learning rate {finetune['learning_rate']:g};", card)
