"""From predictions to figures."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fairsynth.groups import Group
from fairsynth.metrics import score_methods
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
