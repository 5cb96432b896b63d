"""fairsynth beside the best rival: which rival, what is paired, and when the goal is missed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fairsynth.commands.bench.beside import ACCURACY, Beside, average, beside, difference, to_entries
from fairsynth.commands.bench.beside import WORST_GROUP as WORST
from fairsynth.commands.bench.rows import Failed, Measured, rows
from fairsynth.groups import Group
from fairsynth.metrics import MethodScores, score

GROUPS = [Group(y, a) for y in "xy" for a in "pq"]
Right = tuple[int, int, int, int]


def measured(method: str, *right: Right, repetition: int = 0, n: int = 10, **place: str) -> Measured:
    """A method with so many right ones of ``n`` images in each group, per training seed."""
    found = []
    for numbers in right:
        pairs = [(i < hits, g) for g, hits in zip(GROUPS, numbers, strict=True) for i in range(n)]
        found.append(score([hit for hit, _ in pairs], [g for _, g in pairs], GROUPS, dict.fromkeys(GROUPS, 1)))
    scores = MethodScores(method, tuple(range(len(right))), tuple(found))
    where = {"variant": "vanilla" if method == "fairsynth" else "", "severity": "95 %"} | place
    return Measured(method=method, repetition=repetition, scores=scores, images=0, seconds=1.0, **where)  # type: ignore[arg-type]


def one(*parts: Measured | Failed) -> Beside:
    (found,) = beside(rows(parts))
    return found


def repeated(method: str, *worst: tuple[int, ...], first: int = 0, **place: str) -> list[Measured]:
    """A repetition for each tuple of worst groups' right ones, a training seed for each of its numbers."""
    return [
        measured(method, *((9, w, 9, 9) for w in seeds), repetition=first + number, **place)
        for number, seeds in enumerate(worst)
    ]


def test_repetitions_means_are_paired() -> None:
    found = one(*repeated("dfr", (5, 7), (3, 5), (8, 8)), *repeated("fairsynth", (7, 7), (6, 4), (7, 8)))
    ours, theirs = np.array([0.7, 0.5, 0.75]), np.array([0.6, 0.4, 0.8])
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.differences is not None
    assert found.differences[WORST]["mean"] == pytest.approx(0.05)
    assert found.differences[WORST]["ci95_repeats"] == pytest.approx([expected.low, expected.high])
    # Test images, ten of each group, leave more open.
    assert found.differences[WORST]["ci95"][0] < expected.low and found.differences[WORST]["ci95"][1] > expected.high
    # One of four groups differs, so accuracy differs by a quarter of that.
    assert found.differences[ACCURACY]["mean"] == pytest.approx(0.05 / 4)
    assert found.differences[ACCURACY]["ci95_repeats"] == pytest.approx([expected.low / 4, expected.high / 4])
    assert found.over == "3 repetitions" and found.missed == ()


def test_training_seeds_are_paired_where_there_is_one_repetition() -> None:
    found = one(*repeated("dfr", (5, 7, 6)), *repeated("fairsynth", (7, 8, 9)))
    low, high = stats.t.interval(0.95, 2, 0.2, stats.sem([0.2, 0.1, 0.3]))
    assert found.differences is not None and found.over == "3 training seeds"
    assert found.differences[WORST]["mean"] == pytest.approx(0.2)
    assert found.differences[WORST]["ci95_repeats"] == pytest.approx([low, high])
    single = one(*repeated("dfr", (5,)), *repeated("fairsynth", (7,)))
    assert single.differences is not None and single.differences[WORST]["ci95"] is None
    assert single.over == "a single pair"


def test_another_number_of_training_seeds_leaves_the_mean_alone() -> None:
    found = one(*repeated("dfr", (5, 7)), *repeated("fairsynth", (7, 8, 9)))
    assert found.differences is not None and found.over == "a single pair"
    assert found.differences[WORST]["mean"] == pytest.approx(0.2) and found.differences[WORST]["ci95"] is None


def test_the_best_rival_is_the_one_with_the_best_worst_group() -> None:
    ours = measured("fairsynth", (9, 6, 9, 9))
    rivals = [measured("erm", (10, 3, 10, 10)), measured("dfr", (6, 6, 5, 6)), measured("jtt", (9, 4, 9, 9))]
    found = one(*rivals, ours)
    assert found.rival is not None and found.rival.method == "dfr"
    # Of equals it is the more accurate one, whatever their order.
    equals = [measured("erm", (9, 0, 9, 9)), measured("jtt", (10, 0, 10, 10)), measured("dfr", (9, 0, 9, 9))]
    found = one(*equals, ours)
    assert found.rival is not None and found.rival.method == "jtt"
    # Another generator's images, or a variant's, are no rival of fairsynth; FFR is one.
    own = measured("fairsynth", (9, 9, 9, 9), variant="lora")
    both = beside(rows([*equals, measured("ffr", (9, 5, 9, 9), variant="vanilla"), ours, own]))
    assert [(b.ours.variant, b.rival and b.rival.name) for b in both] == [
        ("vanilla", "FFR, vanilla"),
        ("lora", "FFR, vanilla"),
    ]


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        ((80, 70, 80, 80), ()),
        ((80, 68, 80, 80), ()),  # exactly 2 points below
        ((80, 67, 80, 80), (WORST,)),
        ((75, 70, 75, 78), ()),  # exactly 3 points below in accuracy
        ((75, 70, 75, 77), (ACCURACY,)),
        ((70, 60, 80, 80), (WORST, ACCURACY)),
    ],
)
def test_the_goal_is_missed_beyond_two_and_three_points(ours: Right, missed: tuple[str, ...]) -> None:
    rival = measured("dfr", (80, 70, 80, 80), n=100)
    assert one(rival, measured("fairsynth", ours, n=100)).missed == missed


def test_datasets_severities_and_validation_are_compared_apart() -> None:
    parts = []
    for severity in ("95 %", "99 %"):
        for dataset in ("a", "b"):
            for validation in ("given", "biased"):
                place = {"severity": severity, "dataset": dataset, "validation": validation}
                low = 5 + (dataset == "b") + 2 * (validation == "biased")
                parts += [*repeated("dfr", (4, 4), **place), *repeated("fairsynth", (low, low), **place)]
    found = beside(rows(parts))
    assert [(b.ours.level, b.ours.dataset) for b in found] == [
        (level, dataset)
        for level in ("95 %", "95 %, biased validation", "99 %", "99 %, biased validation")
        for dataset in ("a", "b")
    ]
    means = [b.differences[WORST]["mean"] for b in found if b.differences]
    assert means == pytest.approx([0.1, 0.2, 0.3, 0.4] * 2)
    entry = to_entries(found)[3]
    assert (entry["dataset"], entry["severity"], entry["validation"]) == ("b", "95 %", "biased")
    assert (entry["variant"], entry["rival"], entry["over"], entry["missed"]) == (
        "vanilla",
        "DFR",
        "2 training seeds",
        [],
    )


def test_only_repetitions_that_both_have_are_compared() -> None:
    gone = Failed("fairsynth", "vanilla", "95 %", 0, "no images")
    parts = [*repeated("erm", (8,)), *repeated("dfr", (1,), (4,), (6,)), gone]
    found = one(*parts, *repeated("fairsynth", (5,), (9,), first=1))
    # ERM was measured in a repetition that fairsynth has not.
    assert found.rival is not None and found.rival.method == "dfr" and found.differences is not None
    assert found.differences[WORST]["mean"] == pytest.approx(0.2) and found.over == "2 repetitions"
    nothing = one(*repeated("dfr", (1,)), gone)
    assert nothing.rival is None and nothing.differences is None and nothing.missed == ()
    ours, theirs = rows([*repeated("fairsynth", (5,), first=1), *repeated("dfr", (1,))])
    with pytest.raises(ValueError, match="no repetition is common"):
        difference(ours, theirs, WORST)


def test_the_average_is_over_datasets() -> None:
    parts = []
    for dataset, low in (("a", 5), ("b", 8), ("c", 6)):
        parts += [*repeated("dfr", (4,), dataset=dataset), *repeated("fairsynth", (low,), dataset=dataset)]
    parts += [Failed("fairsynth", "vanilla", "95 %", 0, "no images", "d")]
    found = beside(rows(parts))
    low, high = stats.t.interval(0.95, 2, 7 / 30, stats.sem([0.1, 0.4, 0.2]))
    mean = average(found, WORST)
    assert mean["mean"] == pytest.approx(7 / 30) and mean["ci95"] == pytest.approx([low, high])
    with pytest.raises(ValueError, match="no dataset has a difference"):
        average(found[3:], WORST)


def test_repetitions_that_agree_to_the_last_digit_have_an_interval_of_their_test_images() -> None:
    """A world with 100 test images a group was once a point above its rival, +1.0 (+1.0 to +1.0)."""
    parts = [measured("dfr", (99, 99, 99, 99), repetition=r, n=100) for r in range(2)]
    found = one(*parts, *(measured("fairsynth", (100,) * 4, repetition=r, n=100) for r in range(2)))  # type: ignore[arg-type]
    assert found.differences is not None
    assert found.differences[WORST]["ci95_repeats"] == pytest.approx([0.01, 0.01])
    low, high = found.differences[WORST]["ci95"]
    assert low < -0.02 and high > 0.03 and found.differences[WORST]["verdict"] == "inconclusive"
