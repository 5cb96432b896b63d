"""From predictions to figures and to the verdict."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fairsynth.groups import Group
from fairsynth.metrics import GroupAccuracy, MethodScores, Scores, score_methods, verdict
from fairsynth.metrics import test_counts as counts_of_test

GROUPS = [Group(y, a) for y in "xy" for a in "pq"]
TRAIN = dict(zip(GROUPS, (70, 5, 5, 20), strict=True))


def predictions(right: dict[tuple[str, int], tuple[int, ...]], n: tuple[int, ...] = (10, 10, 4, 4)) -> pa.Table:
    """A table with so many right predictions per (method, seed) and group."""
    rows = []
    for (method, seed), numbers in right.items():
        for group, of, hits in zip(GROUPS, n, numbers, strict=True):
            wrong = "y" if group.label == "x" else "x"
            rows += [{"method": method, "seed": seed, "label": group.label, "attribute": group.attribute,
                      "predicted": group.label if i < hits else wrong} for i in range(of)]  # fmt: skip
    return pa.Table.from_pylist(rows)


def test_figures_per_method_and_seed() -> None:
    table = predictions(
        {("erm", 1): (10, 5, 1, 4), ("erm", 0): (9, 8, 2, 3), ("ours", 0): (8, 8, 3, 3), ("ours", 1): (10, 10, 4, 0)}
    )
    erm, ours = score_methods(table, GROUPS, TRAIN)
    assert (erm.name, erm.seeds, ours.name, ours.seeds) == ("erm", (0, 1), "ours", (0, 1))
    assert erm.values("worst_group_accuracy") == [0.5, 0.25]
    assert ours.values("worst_group_accuracy") == [0.75, 0.0]
    assert erm.values("accuracy") == pytest.approx([22 / 28, 20 / 28])
    assert erm.values("accuracy_group_mean") == pytest.approx([(0.9 + 0.8 + 0.5 + 0.75) / 4, (1 + 0.5 + 0.25 + 1) / 4])
    assert erm.values("accuracy_train_prior") == pytest.approx(
        [0.70 * 0.9 + 0.05 * 0.8 + 0.05 * 0.5 + 0.20 * 0.75, 0.70 + 0.05 * 0.5 + 0.05 * 0.25 + 0.20]
    )


def test_the_order_of_rows_changes_no_figure() -> None:
    table = predictions({("erm", 0): (9, 8, 2, 3), ("erm", 1): (10, 5, 1, 4)})
    assert score_methods(table.take(list(range(len(table)))[::-1]), GROUPS, TRAIN) == score_methods(
        table, GROUPS, TRAIN
    )


def test_groups_are_averaged_over_seeds_and_the_worst_has_its_n() -> None:
    (erm,) = score_methods(predictions({("erm", 0): (10, 2, 4, 0), ("erm", 1): (10, 2, 4, 3)}), GROUPS, TRAIN)
    assert [(n, accuracy) for _, n, accuracy in erm.pooled_groups()] == [
        (10, 1),
        (10, pytest.approx(0.2)),
        (4, 1),
        (4, 0.375),
    ]
    # (y, q) is the worst of seed 0, (x, q) of seed 1 and of the mean.
    assert erm.worst_group() == (GROUPS[1], 10)
    assert erm.values("worst_group_accuracy") == [0.0, 0.2]


def test_a_group_without_test_images_is_in_the_table_and_never_the_worst() -> None:
    (erm,) = score_methods(predictions({("erm", 0): (5, 0, 4, 4)}, n=(10, 0, 4, 4)), GROUPS, TRAIN)
    assert erm.pooled_groups()[1] == (GROUPS[1], 0, None)
    assert erm.worst_group() == (GROUPS[0], 10)
    assert erm.values("accuracy_group_mean") == pytest.approx([(0.5 + 1 + 1) / 3])


def test_the_sizes_of_the_test_groups_are_those_of_one_method_and_seed() -> None:
    table = predictions(
        {("erm", 0): (9, 8, 2, 3), ("erm", 1): (10, 5, 1, 4), ("ours", 0): (8, 8, 3, 3)}, n=(10, 9, 0, 4)
    )
    assert counts_of_test(table) == {GROUPS[0]: 10, GROUPS[1]: 9, GROUPS[3]: 4}


def test_a_group_that_is_always_wrong_is_the_worst() -> None:
    (erm,) = score_methods(predictions({("erm", 0): (5, 1, 0, 4)}), GROUPS, TRAIN)
    assert erm.worst_group() == (GROUPS[2], 4) and erm.pooled_groups()[2] == (GROUPS[2], 4, 0.0)


def method(*worst: float) -> MethodScores:
    """A method with these worst-group accuracies."""
    scores = [Scores((), 0, 0, 0, GroupAccuracy(GROUPS[0], 1000, round(w * 1000))) for w in worst]
    return MethodScores("m", tuple(range(len(worst))), tuple(scores))


@pytest.mark.parametrize(
    ("ours", "baseline", "expected"),
    [
        ((0.80, 0.82, 0.81), (0.70, 0.71, 0.70), "improved"),
        ((0.70, 0.71, 0.70), (0.80, 0.82, 0.81), "not improved"),
        ((0.70, 0.71, 0.72), (0.70, 0.71, 0.72), "not improved"),
        ((0.90, 0.60, 0.80), (0.60, 0.70, 0.70), "inconclusive"),  # mean +.1, interval -.397 to .597
        ((0.99, 0.99), (0.01, 0.02), "improved"),
        ((0.80, 0.90), (0.70, 0.60), "inconclusive"),  # +.1 and +.3: two seeds, t = 12.7
        # Paired: each seed gains .05 though the seeds themselves lie far apart.
        ((0.30, 0.60, 0.90), (0.25, 0.551, 0.851), "improved"),
    ],
)
def test_the_verdict_is_the_interval_of_the_paired_difference(
    ours: tuple[float, ...], baseline: tuple[float, ...], expected: str
) -> None:
    assert verdict(method(*ours), method(*baseline)) == expected


def test_one_seed_decides_nothing() -> None:
    assert verdict(method(0.9), method(0.1)) == verdict(method(0.1), method(0.9)) == "inconclusive"


def test_the_interval_is_the_one_of_a_paired_t_test() -> None:
    from scipy.stats import ttest_rel

    seen = set()
    for gain in (0.02, 0.03, 0.04, 0.05, 0.06, 0.08):
        ours, baseline = (0.70 + gain, 0.72 + gain / 2, 0.75 + gain), (0.71, 0.70, 0.74)
        low = ttest_rel(ours, baseline).confidence_interval(0.95).low
        assert (verdict(method(*ours), method(*baseline)) == "improved") == (low > 0)
        seen.add(bool(low > 0))
    assert seen == {True, False}
