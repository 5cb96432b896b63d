"""How far a probe's word can be trusted: measured on real images that it has not learnt from.

The images are dealt out to folds, and a probe that has learnt from the other folds looks at each (cross-fitting). That
tells how often it recognises each group, and how much less sure it is to be: one temperature for labels and one for
attributes (Guo et al. 2017), by which the scores of the probe of all images are divided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from fairsynth.groups import Group
from fairsynth.manifest import seed_for
from fairsynth.models.probe import ENOUGH, SEEN_FROM, Probe, Recognised, fit_probe, scores, softmax, used_images

FOLDS = 5
# Temperatures from 1/50 to 50: by any probe that a few images can teach the best one lies inside.
_COLDEST, _HOTTEST = np.log(1 / 50), np.log(50)


class CrossFitted(NamedTuple):
    """A calibrated probe, and what it sees in real images that it, or its like, has not learnt from.

    ``recognised``: images of each group in which it sees their group. ``taken``: images of the first group in which it
    sees the second, where there are any.
    """

    probe: Probe
    recognised: dict[Group, Recognised]
    taken: Counter[tuple[Group, Group]]

    def judged_on(self, embeddings_ND: NDArray[np.float32], groups_N: Sequence[Group]) -> CrossFitted:
        """With further images that the probe has not learnt from."""
        right_N = is_right(self.probe, embeddings_ND, groups_N)
        seen_N = self.probe.groups_of(embeddings_ND) if len(groups_N) else []
        parts, nothing = (self.recognised, recognised(right_N, groups_N)), Recognised(0, 0)
        found = {group: [part.get(group, nothing) for part in parts] for group in sorted({*parts[0], *parts[1]})}
        return self._replace(
            recognised={g: Recognised(*map(sum, zip(*counts, strict=True))) for g, counts in found.items()},
            taken=self.taken + taken_for(seen_N, groups_N),
        )

    def mistaken(self, group: Group) -> float | None:
        """The share of another group's images that it takes for this group's, of the group for which that is highest.

        Laplace's estimate (k + 1) / (n + 2), of groups with at least 10 images; None without such a group.
        """
        others = {of: found.judged for of, found in self.recognised.items() if of != group and found.judged >= ENOUGH}
        return max(((self.taken[of, group] + 1) / (n + 2) for of, n in others.items()), default=None)


class _Unseen(NamedTuple):
    """Scores (N, C) by a probe that has not seen the image, and the own class; -1 where no probe knew it."""

    scores_NC: NDArray[np.float64]
    own_N: NDArray[np.int64]


def cross_fit(embeddings_ND: NDArray[np.float32], groups_N: Sequence[Group], image_ids_N: Sequence[str]) -> CrossFitted:
    """Fit a probe on real images and calibrate it. The result does not depend on the images' order.

    Raises ValueError for no images.
    """
    probe = fit_probe(embeddings_ND, groups_N, image_ids_N)
    used = used_images(groups_N, image_ids_N)
    points_ND, groups, ids = embeddings_ND[used], [groups_N[i] for i in used], [image_ids_N[i] for i in used]
    labels, attributes, right_N, seen_N = _looked_at(probe, points_ND, groups, ids)
    calibrated = replace(
        probe,
        label_temperature=temperature(*labels, groups),
        attribute_temperature=temperature(*attributes, groups),
    )
    return CrossFitted(calibrated, recognised(right_N, groups), taken_for(seen_N, groups))


def recognised(right_N: NDArray[np.bool_], groups_N: Sequence[Group]) -> dict[Group, Recognised]:
    """Images of each group that were recognised, and how many were judged."""
    judged = Counter(groups_N)
    right = Counter(group for group, fine in zip(groups_N, right_N.tolist(), strict=True) if fine)
    return {group: Recognised(right[group], judged[group]) for group in sorted(judged)}


def taken_for(seen_N: Sequence[Group], groups_N: Sequence[Group]) -> Counter[tuple[Group, Group]]:
    """Images of the first group in which the second is seen."""
    return Counter((own, seen) for own, seen in zip(groups_N, seen_N, strict=True) if own != seen)


def is_right(probe: Probe, points_ND: NDArray[np.float32], groups_N: Sequence[Group]) -> NDArray[np.bool_]:
    """In which images the probe sees both label and attribute, (N,)."""
    label_N, attribute_N = probe.agreement(points_ND, groups_N)
    return np.minimum(label_N, attribute_N) >= SEEN_FROM  # type: ignore[no-any-return]


def _looked_at(
    whole: Probe, points_ND: NDArray[np.float32], groups_N: Sequence[Group], image_ids_N: Sequence[str]
) -> tuple[_Unseen, _Unseen, NDArray[np.bool_], list[Group]]:
    """Every image as a probe sees it that has learnt from the other folds: labels, attributes, whether both are right,
    and its group; the own one where no other fold has images.
    """
    folds_N, n = _folds(groups_N, image_ids_N), len(groups_N)
    labels = _Unseen(np.full((n, len(whole.labels)), -np.inf), np.full(n, -1))
    attributes = _Unseen(np.full((n, len(whole.attributes)), -np.inf), np.full(n, -1))
    right_N, seen_N = np.zeros(n, bool), list(groups_N)
    for fold in range(FOLDS):
        learnt, unseen = (np.flatnonzero(mask).tolist() for mask in (folds_N != fold, folds_N == fold))
        if not (learnt and unseen):
            continue
        probe = fit_probe(points_ND[learnt], [groups_N[i] for i in learnt], [image_ids_N[i] for i in learnt])
        groups = [groups_N[i] for i in unseen]
        right_N[unseen] = is_right(probe, points_ND[unseen], groups)
        for i, seen in zip(unseen, probe.groups_of(points_ND[unseen]), strict=True):
            seen_N[i] = seen
        for part, into, names, all_names in (
            (0, labels, probe.labels, whole.labels),
            (1, attributes, probe.attributes, whole.attributes),
        ):
            weights = (probe.label_weights_CD, probe.attribute_weights_CD)[part]
            columns = np.array([all_names.index(name) for name in names])
            into.scores_NC[np.array(unseen)[:, None], columns] = scores(points_ND[unseen], weights)
            into.own_N[unseen] = [all_names.index(g[part]) if g[part] in names else -1 for g in groups]
    return labels, attributes, right_N, seen_N


def _folds(groups_N: Sequence[Group], image_ids_N: Sequence[str]) -> NDArray[np.int64]:
    """The fold of each image, (N,): every group is dealt out evenly, by its images' ids."""
    folds_N, dealt = np.zeros(len(groups_N), np.int64), Counter[Group]()
    for i in sorted(range(len(groups_N)), key=lambda i: seed_for("fold", image_ids_N[i])):
        folds_N[i] = dealt[groups_N[i]] % FOLDS
        dealt[groups_N[i]] += 1
    return folds_N


def temperature(scores_NC: NDArray[Any], own_N: NDArray[np.int64], groups_N: Sequence[Group]) -> float:
    """The temperature by which unseen images' own classes are the least surprising, every group counting the same.

    ``scores_NC``: -inf for a class that the probe did not know; ``own_N``: the own class, -1 leaves an image out. Of a
    group with n images the own class counts as sure only to (n + 1) / (n + 2), and the other classes share the rest
    (Platt 1999): so few images, all of them right, do not make a probe sure of everything. 1 where nothing is to learn.
    """
    known = (own_N >= 0) & (np.isfinite(scores_NC).sum(1) > 1)
    if not known.any():
        return 1.0
    rows_NC, own = scores_NC[known].astype(np.float64), own_N[known]
    groups = [group for group, kept in zip(groups_N, known.tolist(), strict=True) if kept]
    counts = Counter(groups)
    n_N = np.array([counts[group] for group in groups])
    finite_NC, rows = np.isfinite(rows_NC), np.arange(len(own))
    target_NC = np.where(finite_NC, (1 / (n_N + 2) / (finite_NC.sum(1) - 1))[:, None], 0.0)
    target_NC[rows, own] = (n_N + 1) / (n_N + 2)
    weights_N = 1 / (n_N * len(counts))

    def surprise(log_temperature: float) -> float:
        shares_NC = np.maximum(softmax(rows_NC / np.exp(log_temperature)), 1e-300)
        return float(-(weights_N[:, None] * target_NC * np.log(shares_NC)).sum())

    found = minimize_scalar(surprise, bounds=(_COLDEST, _HOTTEST), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
