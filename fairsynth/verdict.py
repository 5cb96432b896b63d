"""Whether a method is better than another on test images: the difference, its 95 % interval, and a verdict.

Two kinds of chance are in the interval. **Repeats**: training seeds, or repetitions of everything; Student's t over the
paired differences. **Test images**: others of the same groups would give other accuracies. Each group's accuracy has the
exact bounds of Clopper & Pearson (1934). The worst group's true accuracy is not above any group's upper bound and not
below the lowest lower bound; as the smallest of G upper bounds is taken, each is missed with a G-th of the chance
(Bonferroni). The deviations of both methods, and of both kinds of chance, are independent and so add up by their squares
(Newcombe 1998; Zou & Donner 2008). Two methods that are right on the same images differ by less: the interval is wide
rather than narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fairsynth.groups import Group
from fairsynth.metrics import Interval, MethodScores, Scores, paired

Figure = Literal["worst_group_accuracy", "accuracy"]
# Fewer test images of a worst group show nothing: there the methods' errors may well depend on each other.
FEWEST = 10
_TAIL = 0.025


class Deviation(NamedTuple):
    """How far the truth may lie below and above what was measured."""

    below: float
    above: float


def exact(right: int, n: int, tail: float = _TAIL) -> Interval:
    """Bounds of a share, each of which is missed with the chance ``tail`` at most (Clopper & Pearson 1934).

    Raises ValueError for n = 0.
    """
    if n < 1:
        raise ValueError("an interval needs at least one observation")
    from scipy.stats import beta

    low = float(beta.ppf(tail, right, n - right + 1)) if right else 0.0
    return Interval(low, float(beta.ppf(1 - tail, right + 1, n - right)) if right < n else 1.0)


def by_images(scores: Scores, figure: Figure) -> Deviation:
    """How far a figure on further test images of the same groups may lie from that on these."""
    groups = [(group.correct, group.n) for group in scores.groups if group.n]
    if figure == "accuracy":
        groups = [(sum(right for right, _ in groups), sum(n for _, n in groups))]
    value = min(right / n for right, n in groups)
    low = min(exact(right, n).low for right, n in groups)
    high = min(exact(right, n, _TAIL / len(groups)).high for right, n in groups)
    return Deviation(value - low, max(0.0, high - value))


def compared(
    ours: Sequence[MethodScores], theirs: Sequence[MethodScores], figure: Figure = "worst_group_accuracy"
) -> dict[str, Any]:
    """Ours minus theirs on the same test images; each has its scores of every repetition, in the same order.

    ``mean``; ``ci95``: [low, high], over repeats and test images, None without repeats; ``ci95_repeats``: over repeats
    alone; ``verdict``: ``improved`` if ``ci95`` lies above 0, ``not improved`` if it lies at or below 0, else
    ``inconclusive``, and so, too, where a worst group has fewer than ``FEWEST`` test images; ``why``: what stands in the way
    of a verdict, empty if nothing but 0 in the interval of the repeats. What is repeated are the repetitions, or the
    training seeds of a single one, if both have as many. Test images count as the same in all repetitions.
    Raises ValueError for another number of repetitions, or none.
    """
    pairs = list(zip(ours, theirs, strict=True))
    by_repeats = paired(*_repeats(pairs, figure))
    found = {
        "mean": by_repeats["mean"],
        "ci95": None,
        "ci95_repeats": by_repeats["ci95"],
        "verdict": "inconclusive",
        "why": "a single training of each has no interval",
    }
    if by_repeats["ci95"] is None:
        return found
    mean, below, above = by_repeats["mean"], *_of_difference(pairs, figure)
    low, high = by_repeats["ci95"]
    # No difference of shares is greater than 1.
    low = max(-1.0, mean - math.hypot(mean - low, below))
    high = min(1.0, mean + math.hypot(high - mean, above))
    verdict = "improved" if low > 0 else "not improved" if high <= 0 else "inconclusive"
    group, n = _smallest_worst(pairs)
    why = ""
    if verdict == "inconclusive" and by_repeats["verdict"] != verdict:
        why = f"the test images are too few to show it: {_least_known(pairs, figure)}"
    if n < FEWEST and figure == "worst_group_accuracy":
        images = "1 test image" if n == 1 else f"{n} test images"
        verdict, why = "inconclusive", f"a worst group, {group}, has {images}; at least {FEWEST} are needed"
    return found | {"ci95": [low, high], "verdict": verdict, "why": why}


def _repeats(pairs: Sequence[tuple[MethodScores, MethodScores]], figure: Figure) -> tuple[list[float], list[float]]:
    if len(pairs) == 1 and len(pairs[0][0].scores) == len(pairs[0][1].scores):
        return pairs[0][0].values(figure), pairs[0][1].values(figure)
    ours, theirs = ([float(np.mean(pair[side].values(figure))) for pair in pairs] for side in (0, 1))
    return ours, theirs


def _of_difference(pairs: Sequence[tuple[MethodScores, MethodScores]], figure: Figure) -> Deviation:
    """What test images leave open of the difference, the mean over repetitions and seeds, which share them."""
    each = []
    for pair in pairs:
        ours, theirs = (np.mean([by_images(scores, figure) for scores in method.scores], 0) for method in pair)
        each.append((math.hypot(ours[0], theirs[1]), math.hypot(ours[1], theirs[0])))
    return Deviation(*np.mean(each, 0).tolist())


def _least_known(pairs: Sequence[tuple[MethodScores, MethodScores]], figure: Figure) -> str:
    """Of which group more test images would make the interval narrower."""
    everything = [scores for pair in pairs for method in pair for scores in method.scores]
    if figure == "accuracy":
        return f"there are {min(sum(group.n for group in scores.groups) for scores in everything)}"
    groups = [group for scores in everything for group in scores.groups if group.n]
    least = min(groups, key=lambda group: (exact(group.correct, group.n).low, group.n, group.group))
    return f"{least.group} has {least.n}"


def _smallest_worst(pairs: Sequence[tuple[MethodScores, MethodScores]]) -> tuple[Group, int]:
    """Of the groups that were some training's worst the one with the fewest test images."""
    worst = [scores.worst for pair in pairs for method in pair for scores in method.scores]
    smallest = min(worst, key=lambda group: (group.n, group.group))
    return smallest.group, smallest.n
