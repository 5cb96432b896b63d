"""Figures against fairlearn, scikit-learn and slow loops over their definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fairlearn.metrics import MetricFrame, count
from fairlearn.metrics import equalized_odds_difference as fairlearns
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from fairsynth.groups import Group
from fairsynth.metrics import (
    equalized_odds_difference,
    expected_calibration_error,
    more_figures,
    paired,
    score,
    score_methods,
)
from fairsynth.metrics import test_counts as counts_of_test


@given(st.integers(0, 10_000), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_equalised_odds_for_two_labels_are_fairlearns(seed: int, attributes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, 2, (2, 200))
    attribute = rng.integers(0, attributes, 200)
    assert equalized_odds_difference(labels, predicted, attribute) == pytest.approx(
        fairlearns(labels, predicted, sensitive_features=attribute)
    )


def test_equalised_odds_for_more_labels_are_the_largest_of_each_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    labels, predicted, attribute = rng.integers(0, 3, (3, 300))
    each = [fairlearns(labels == k, predicted == k, sensitive_features=attribute) for k in range(3)]
    assert equalized_odds_difference(labels, predicted, attribute) == pytest.approx(max(each))


def test_rates_without_images_do_not_count() -> None:
    # Attribute 1 has no image of label 0: its false positive rate is undefined, not 0.
    labels, attribute = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 1, 1])
    predicted = np.array([1, 1, 1, 1, 1, 0])
    assert equalized_odds_difference(labels, predicted, attribute) == 0.5
    assert fairlearns(labels, predicted, sensitive_features=attribute) == 1.0, "there it is 0"
    assert equalized_odds_difference(np.array([0, 1]), np.array([0, 1]), np.array([0, 1])) is None


def slow_ece(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, eq. 3, image by image."""
    error = 0.0
    for b in range(bins):
        rows = [
            (max(p), int(np.argmax(p)) == y)
            for p, y in zip(probabilities, labels, strict=True)
            if b / bins < max(p) <= (b + 1) / bins
        ]
        if rows:
            error += len(rows) / len(labels) * abs(np.mean([c for c, _ in rows]) - np.mean([r for _, r in rows]))
    return error


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("bins", [10, 15])
def test_calibration_error_is_the_formula(classes: int, bins: int) -> None:
    rng = np.random.default_rng(classes)
    probabilities = rng.dirichlet(np.ones(classes), 400)
    labels = rng.integers(0, classes, 400)
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(
        slow_ece(probabilities, labels, bins)
    )


def test_a_perfectly_calibrated_classifier_has_no_error_and_a_sure_wrong_one_all() -> None:
    sure = np.array([[1.0, 0.0]] * 4)
    assert expected_calibration_error(sure, np.zeros(4, int)) == 0
    assert expected_calibration_error(sure, np.ones(4, int)) == 1
    # 0.7 in float32 is a little more than 0.7, and belongs to the bin that ends there.
    edge = np.array([[0.7, 0.3]] * 10, np.float32).astype(float)
    assert expected_calibration_error(edge, np.array([0] * 7 + [1] * 3)) == pytest.approx(0, abs=1e-6)


def predictions(seed: int = 0, n: int = 120) -> pa.Table:
    rng = np.random.default_rng(seed)
    tables = []
    for method in ("erm", "fairsynth"):
        for number in (1, 0):
            probabilities = rng.dirichlet((1, 1), n).astype(np.float32)
            columns = {
                "method": [method] * n,
                "seed": [number] * n,
                "label": [("high", "low")[i] for i in rng.integers(0, 2, n)],
                "attribute": [("flower", "building")[i] for i in rng.integers(0, 2, n)],
                "predicted": [("high", "low")[i] for i in probabilities.argmax(1)],
                "probabilities": pa.array(probabilities.tolist(), pa.list_(pa.float32())),
            }
            tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def test_figures_of_each_method_and_seed() -> None:
    table = predictions()
    found = more_figures(table, ["high", "low"])
    frame = table.to_pandas()
    for method in ("erm", "fairsynth"):
        for place, seed in enumerate((0, 1)):
            rows = frame[(frame.method == method) & (frame.seed == seed)]
            values = {name: found[method][name][place] for name in found[method]}
            assert values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(rows.label, rows.predicted))
            recalls = MetricFrame(
                metrics=accuracy_score, y_true=rows.label, y_pred=rows.predicted, sensitive_features=rows.label
            )
            assert values["worst_class_accuracy"] == pytest.approx(recalls.group_min())
            odds = fairlearns(rows.label == "low", rows.predicted == "low", sensitive_features=rows.attribute)
            assert values["equalized_odds_difference"] == pytest.approx(odds)
            probabilities = np.array(rows.probabilities.tolist(), float)
            labels = np.array([["high", "low"].index(v) for v in rows.label])
            assert values["ece"] == pytest.approx(slow_ece(probabilities, labels, 10), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_methods_and_seeds_are_scored_as_each_is_alone(seed: int) -> None:
    table = predictions(seed)
    mixed = table.take(pa.array(np.random.default_rng(seed).permutation(len(table))))
    groups = [Group(y, a) for y in ("high", "low", "none") for a in ("building", "flower")]
    train = {group: 3 * place for place, group in enumerate(groups)}
    for rows in (table, pa.concat_tables([table.slice(100), table.slice(0, 100)]), mixed):
        frame, found = rows.to_pandas(), score_methods(rows, groups, train)
        assert [one.name for one in found] == list(dict.fromkeys(frame.method))
        for one in found:
            assert one.seeds == (0, 1)
            for number, scores in zip(one.seeds, one.scores, strict=True):
                part = frame[(frame.method == one.name) & (frame.seed == number)]
                of = [Group(y, a) for y, a in zip(part.label, part.attribute, strict=True)]
                assert scores == score((part.predicted == part.label).tolist(), of, groups, train)
        first = frame[(frame.method == frame.method[0]) & (frame.seed == frame.seed[0])]
        assert counts_of_test(rows) == {
            Group(y, a): n for (y, a), n in first.groupby(["label", "attribute"]).size().items()
        }
    assert score_methods(table.slice(0, 0), groups, train) == [] and not counts_of_test(table.slice(0, 0))
    with pytest.raises(KeyError, match="flower"):
        score_methods(table, [group for group in groups if group.attribute == "building"], train)


def test_accuracies_are_those_of_fairlearns_metric_frame() -> None:
    frame = predictions(3).to_pandas()
    frame = frame[(frame.method == "erm") & (frame.seed == 0)]
    known = MetricFrame(
        metrics={"accuracy": accuracy_score, "n": count},
        y_true=frame.label,
        y_pred=frame.predicted,
        sensitive_features=frame[["label", "attribute"]],
    )
    groups = [Group(y, a) for y, a in known.by_group.index]
    of = [Group(y, a) for y, a in zip(frame.label, frame.attribute, strict=True)]
    found = score((frame.label == frame.predicted).tolist(), of, groups, {})
    assert {g.group: (g.n, g.accuracy) for g in found.groups} == {
        Group(*index): (row.n, pytest.approx(row.accuracy)) for index, row in known.by_group.iterrows()
    }
    assert found.worst_group_accuracy == pytest.approx(known.group_min()["accuracy"])
    assert found.accuracy == pytest.approx(known.overall["accuracy"])
    assert found.accuracy_group_mean == pytest.approx(known.by_group["accuracy"].mean())


def test_the_three_averages_on_the_groups_of_waterbirds() -> None:
    """Train counts 3498, 184, 56, 1057; test counts 2255, 2255, 642, 642 (Sagawa et al. 2020)."""
    groups = [Group(y, a) for y in ("landbird", "waterbird") for a in ("land", "water")]
    train, test = (3498, 184, 56, 1057), (2255, 2255, 642, 642)
    correct = (2240, 1900, 400, 600)
    frame = pd.DataFrame(
        [(g, i < hits) for g, n, hits in zip(groups, test, correct, strict=True) for i in range(n)],
        columns=["group", "right"],
    )
    found = score(frame.right.tolist(), frame.group.tolist(), groups, dict(zip(groups, train, strict=True)))
    each = [c / n for c, n in zip(correct, test, strict=True)]
    assert found.accuracy == pytest.approx(sum(correct) / 5794)
    assert found.accuracy_group_mean == pytest.approx(sum(each) / 4)
    assert found.accuracy_train_prior == pytest.approx(np.average(each, weights=train))
    assert found.worst_group_accuracy == pytest.approx(400 / 642) and found.worst.n == 642
    # The averages do differ, which is what most failed reproductions are about.
    assert found.accuracy_train_prior - found.accuracy_group_mean > 0.1


def test_the_paired_interval_is_scipys() -> None:
    ours, theirs = [0.8, 0.75, 0.82, 0.79], [0.5, 0.6, 0.55, 0.42]
    found = paired(ours, theirs)
    known = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found["ci95"] == pytest.approx([known.low, known.high]) and found["verdict"] == "improved"
    assert paired(theirs, ours)["verdict"] == "not improved"
    assert paired([0.5, 0.9, 0.4], [0.6, 0.5, 0.5])["verdict"] == "inconclusive"
    assert paired([0.9], [0.1]) == {"mean": pytest.approx(0.8), "ci95": None, "verdict": "inconclusive"}
    with pytest.raises(ValueError, match="zip"):
        paired([0.9, 0.8], [0.1])
