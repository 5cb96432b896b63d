"""What a trial batch says: how often a route shows a group, and whether that is often enough."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from fairsynth.groups import Group
from fairsynth.metrics import wilson
from fairsynth.models.probe import Recognised


class TrialBatch(NamedTuple):
    """Result of a trial batch of one route: images made, and those that show their group.

    These are the images in which the probe sees label and attribute, without copies and look-alikes.
    """

    made: int
    right: int
    passing: int | None = None
    """Those in which the probe sees both, whatever else the filter says; None: as many as are right."""

    @property
    def agreement(self) -> float:
        """Share of images that show their group."""
        return self.right / self.made if self.made else 0.0


def clearly_less(one: TrialBatch, other: TrialBatch, margin: float) -> bool:
    """Whether one agreement is below the other by more than the margin, and not by chance (95 % intervals apart)."""
    if not one.made or not other.made:
        return False
    apart = wilson(one.right, one.made).high < wilson(other.right, other.made).low
    return apart and one.agreement < other.agreement - margin


def least_share(groups: Collection[Group], min_shown: float) -> float:
    """The share of a route's images that must show their group: ``min_shown``, and never less than by chance.

    A generator that ignores its prompt shows each of L labels and A attributes once in L * A images. 0: none must.
    """
    labels, attributes = ({group[part] for group in groups} for part in (0, 1))
    kinds = len(labels) * len(attributes)
    # Of one label and one attribute every image shows both: chance is no bound then.
    return max(min_shown, 1 / kinds if kinds > 1 else 0.0) if min_shown else 0.0


def likely_right(trial: TrialBatch, recognised: Recognised, mistaken: float) -> float:
    """The share of the images which pass the probe that show their group, from how many pass and how the probe errs.

    Of a batch the share r passes; of images that show the group s would, of those that show another ``mistaken`` f. So
    p = (r - f) / (s - f) of the batch show it (Rogan & Gladen 1978), and 1 - f (1 - p) / r of those that pass. s is
    Laplace's estimate from ``recognised``. 0 if none passes, or if the probe cannot tell.
    """
    passed = trial.right if trial.passing is None else trial.passing
    passing, seen = passed / max(1, trial.made), (recognised.right + 1) / (recognised.judged + 2)
    if not passing or seen <= mistaken:
        return 0.0
    showing = min(1.0, max(0.0, (passing - mistaken) / (seen - mistaken)))
    return max(0.0, 1 - mistaken * (1 - showing) / passing)


def shows(trial: TrialBatch, least: float) -> bool:
    """Whether a route shows its group in the share ``least`` of its images, by the lower end of the 95 % interval."""
    return not least or (trial.made > 0 and wilson(trial.right, trial.made).low >= least)
