"""Can synthetic images be told from real ones, and does how real they look give their label away?

Scores and areas under the ROC curve on CLIP embeddings. Intervals are of 95 %, over images alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairsynth.groups import Group, group_index

MIN_IMAGES = 10  # real ones, and as many synthetic ones, that an AUC needs
_FOLDS = 5
_STRENGTH = 0.1  # of LogisticRegression on standardised columns: images may be fewer than dimensions
_Z = 1.959964


class Auc(NamedTuple):
    """Area under the ROC curve with its 95 % interval."""

    auc: float
    low: float
    high: float


def auc(higher_N: NDArray[np.float64], lower_M: NDArray[np.float64]) -> Auc:
    """Chance that a score of the first set exceeds one of the second, ties counting half (Mann & Whitney 1947).

    The interval holds every value from which the one found is less than 1.96 standard errors away, with the
    standard error of Hanley & McNeil (1982) at that value: so it has a width even at 0 and 1 (Newcombe 2006,
    method 5). Raises ValueError if a set is empty.
    """
    from scipy.optimize import brentq
    from scipy.stats import rankdata

    n, m = len(higher_N), len(lower_M)
    if not (n and m):
        raise ValueError("an AUC needs scores on both sides")
    ranks = rankdata(np.concatenate([higher_N, lower_M]))
    area = float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))

    def beyond(value: float) -> float:
        q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
        variance = value * (1 - value) + (n - 1) * (q1 - value**2) + (m - 1) * (q2 - value**2)
        return abs(area - value) - _Z * float(np.sqrt(max(0.0, variance) / (n * m)))

    # At 0 and 1 themselves the error is 0: the roots wanted lie inside.
    low = brentq(beyond, 0.0, min(area, 1 - 1e-9)) if area > 0 else 0.0
    high = brentq(beyond, max(area, 1e-9), 1.0) if area < 1 else 1.0
    return Auc(area, float(low), float(high))


def detectability(real_ND: NDArray[np.float32], synthetic_MD: NDArray[np.float32], seed: int) -> Auc | None:
    """How well a linear model tells real from synthetic images that it has not seen: 0.5 is ideal.

    Both sets are drawn down to the smaller one's size; logistic regression in five folds (a classifier
    two-sample test, Lopez-Paz & Oquab 2017). None with fewer than 10 images on a side.
    """
    rng, size = np.random.default_rng(seed), min(len(real_ND), len(synthetic_MD))
    real, synthetic = (rows[rng.choice(len(rows), size, replace=False)] for rows in (real_ND, synthetic_MD))
    scores = realism_scores(real, synthetic, [Group("", "")] * size, [Group("", "")] * size, seed)
    return None if scores is None else auc(scores.real_N, scores.synthetic_M)


class Realism(NamedTuple):
    """How real each real (N,) and each synthetic image (M,) looks: log odds up to a constant."""

    real_N: NDArray[np.float64]
    synthetic_M: NDArray[np.float64]


def realism_scores(
    real_ND: NDArray[np.float32],
    synthetic_MD: NDArray[np.float32],
    real_groups_N: Sequence[Group],
    synthetic_groups_M: Sequence[Group],
    seed: int,
) -> Realism | None:
    """How real each image looks to a logistic regression that has not seen it, in five folds.

    The score shall know the label only by how images are made. So the regression learns from groups with at least 10
    real and 10 synthetic images, all groups counting alike, and real and synthetic images alike in each. It has a
    constant for each group, which the score leaves out, so that only images of one group are compared. The directions
    in which the labels of real images differ are first removed from the embeddings (as in concept erasure, Belrose et
    al. 2023). All images are scored. None without such a group.
    """
    from sklearn.preprocessing import StandardScaler

    rows = np.concatenate([real_ND, synthetic_MD]).astype(np.float64)
    real = np.arange(len(rows)) < len(real_ND)
    coded = _coded([*real_groups_N, *synthetic_groups_M])
    counts_2G = np.stack(
        [np.bincount(coded.groups_N[real == is_real], minlength=coded.n_groups) for is_real in (False, True)]
    )
    comparable = (counts_2G.min(0) >= MIN_IMAGES)[coded.groups_N]
    if not comparable.any():
        return None
    folds, scores = _folds(real * coded.n_groups + coded.groups_N, seed), np.zeros(len(rows))
    for fold in range(_FOLDS):
        learnt, unseen = folds != fold, folds == fold
        scaler = StandardScaler().fit(rows[learnt & comparable])
        scaled = scaler.transform(rows)
        known = learnt & real
        scaled -= scaled @ _label_subspace(scaled[known], coded.labels_N[known], coded.attributes_N[known])
        part = learnt & comparable
        scores[unseen] = scaled[unseen] @ _direction(scaled[part], real[part], coded.groups_N[part])
    return Realism(scores[real], scores[~real])


class _Coded(NamedTuple):
    groups_N: NDArray[np.int64]
    labels_N: NDArray[np.int64]
    attributes_N: NDArray[np.int64]
    n_groups: int


def _coded(groups: Sequence[Group]) -> _Coded:
    labels, attributes = sorted({g.label for g in groups}), sorted({g.attribute for g in groups})
    labels_N = np.array([labels.index(g.label) for g in groups], np.int64)
    attributes_N = np.array([attributes.index(g.attribute) for g in groups], np.int64)
    n_attributes = len(attributes)
    return _Coded(group_index(labels_N, attributes_N, n_attributes), labels_N, attributes_N, len(labels) * n_attributes)


def _folds(strata_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Fold (N,) of each row: dealt out stratum by stratum, so that each spreads evenly over all folds."""
    shuffled = np.random.default_rng(seed).permutation(len(strata_N))
    dealt, folds = shuffled[np.argsort(strata_N[shuffled], kind="stable")], np.empty(len(strata_N), np.int64)
    folds[dealt] = np.arange(len(strata_N)) % _FOLDS
    return folds


def _label_subspace(
    rows_ND: NDArray[np.float64], labels_N: NDArray[np.int64], attributes_N: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Projection (D, D) onto the differences between the labels' means, attributes held equal (least squares)."""
    design = np.hstack([np.eye(codes.max() + 1)[codes] for codes in (labels_N, attributes_N)])
    effects_LD = np.linalg.lstsq(design, rows_ND)[0][: labels_N.max() + 1]
    _, sizes, directions = np.linalg.svd(effects_LD - effects_LD.mean(0), full_matrices=False)
    kept = directions[sizes > 1e-6]
    return np.asarray(kept.T @ kept)


def _direction(
    rows_ND: NDArray[np.float64], real_N: NDArray[np.bool_], groups_N: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Coefficients (D,) by which real and synthetic images of one group differ."""
    from sklearn.linear_model import LogisticRegression

    cells_N = 2 * groups_N + real_N
    weights_N = 1 / np.bincount(cells_N)[cells_N]
    # Large columns, so that the penalty does not hold the groups' constants down.
    constants = 10.0 * np.eye(groups_N.max() + 1)[groups_N]
    model = LogisticRegression(C=_STRENGTH, max_iter=5000)
    model.fit(np.hstack([rows_ND, constants]), real_N, sample_weight=weights_N / weights_N.mean())
    return np.asarray(model.coef_[0, : rows_ND.shape[1]])


class StyleAudit(NamedTuple):
    """How far realism alone tells the label among the images of one attribute.

    ``synthetic``: AUC >= 0.5 of the label that it tells best from the others; that label's images look more real
    than the others if ``more_real``, less if not. ``real``: the same comparison, the same way round, among real
    images (below 0.5: it goes the other way); None with fewer than 10 on a side.
    """

    attribute: str
    label: str
    more_real: bool
    synthetic: Auc
    real: Auc | None


def style_predicts_label(
    real_ND: NDArray[np.float32],
    synthetic_MD: NDArray[np.float32],
    real_groups_N: Sequence[Group],
    synthetic_groups_M: Sequence[Group],
    seed: int,
) -> tuple[StyleAudit, ...]:
    """The shortcut audit: do the synthetic images of one label look more real than those of another?

    For each attribute: ``realism_scores`` as the only clue to the label. Far above 0.5 and above its ``real``
    reference, labels are made differently, and a classifier can learn that instead of the label. Where a label
    has few real images both figures rise together: only the gap counts. A difference that lies wholly in the
    direction of the label itself is not seen. Attributes with fewer than two labels of
    10 synthetic images are left out; without realism scores the result is empty.
    """
    scores = realism_scores(real_ND, synthetic_MD, real_groups_N, synthetic_groups_M, seed)
    if scores is None:
        return ()
    audits = []
    for attribute in sorted({g.attribute for g in synthetic_groups_M}):
        synthetic = _by_label(scores.synthetic_M, synthetic_groups_M, attribute)
        real = _by_label(scores.real_N, real_groups_N, attribute)
        found = [audit for label in sorted(synthetic) if (audit := _audit(attribute, label, synthetic, real))]
        if found:
            # With two labels both have the same AUC: the one that looks more real is named.
            audits.append(max(found, key=lambda audit: (round(audit.synthetic.auc, 9), audit.more_real)))
    return tuple(audits)


_ByLabel = dict[str, NDArray[np.float64]]


def _by_label(scores_N: NDArray[np.float64], groups_N: Sequence[Group], attribute: str) -> _ByLabel:
    labels = np.array([g.label if g.attribute == attribute else None for g in groups_N], object)
    return {label: scores_N[labels == label] for label in {*labels.tolist()} - {None}}


def _audit(attribute: str, label: str, synthetic: _ByLabel, real: _ByLabel) -> StyleAudit | None:
    of_synthetic = _one_against_rest(synthetic, label)
    if of_synthetic is None:
        return None
    of_real, more_real = _one_against_rest(real, label), of_synthetic.auc >= 0.5
    if not more_real:
        of_synthetic, of_real = _turned(of_synthetic), of_real and _turned(of_real)
    return StyleAudit(attribute, label, more_real, of_synthetic, of_real)


def _one_against_rest(scores: _ByLabel, label: str) -> Auc | None:
    one = scores.get(label, np.zeros(0))
    rest = np.concatenate([np.zeros(0), *(s for other, s in scores.items() if other != label)])
    return auc(one, rest) if min(len(one), len(rest)) >= MIN_IMAGES else None


def _turned(of: Auc) -> Auc:
    return Auc(1 - of.auc, 1 - of.high, 1 - of.low)
