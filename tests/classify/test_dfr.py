"""Deep feature reweighting on made-up features: balanced, averaged, for any number of classes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fairsynth.classify.dfr import GRID, Labelled, Linear, balanced, choose, fit, halves, refit, refitted, worst_group


def rows(sizes: tuple[int, ...], n_labels: int = 2, seed: int = 0, d: int = 6) -> Labelled:
    """Features: the first says the label, the second the attribute, more strongly; g = y * attributes + a."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    attributes = len(sizes) // n_labels
    labels = groups // attributes
    features = rng.normal(size=(len(groups), d))
    features[:, 0] += 2.0 * labels
    features[:, 1] += 5.0 * (groups % attributes)
    return Labelled(features, labels, groups)


def test_every_group_is_as_large_as_the_smallest() -> None:
    groups = np.repeat([0, 1, 3], (30, 7, 12))
    places = balanced(groups, np.random.default_rng(0))
    assert np.bincount(groups[places]).tolist() == [7, 7, 0, 7] and len(set(places.tolist())) == 21
    others = {tuple(balanced(groups, np.random.default_rng(seed))) for seed in range(5)}
    assert len(others) == 5


def test_halves_share_out_every_group() -> None:
    groups = np.repeat([0, 1, 2], (10, 5, 1))
    first, second = halves(groups, np.random.default_rng(0))
    assert sorted([*first, *second]) == list(range(16))
    assert np.bincount(groups[first]).tolist() == [5, 3, 1] and np.bincount(groups[second], minlength=3).tolist() == [
        5,
        2,
        0,
    ]


def test_all_settings_are_judged_by_the_same_half_of_each_group() -> None:
    """Trials of one seed differ in their features, which here are scaled otherwise; an image's last one is its number."""
    known, found = rows((10, 6, 8, 4), seed=1), []
    known.features_ND[:, 5] = np.arange(28)
    for seed in range(3):
        train = rows((30,) * 4, seed=seed)
        _, held_out, _ = refit(train, known, "dfr", 2, np.random.default_rng(9))
        scale, middle = train.features_ND[:, 5].std(), train.features_ND[:, 5].mean()
        found.append(np.rint(held_out.features_ND[:, 5] * scale + middle).astype(int).tolist())
    assert found[0] == found[1] == found[2] and len({*found[0]}) == 14
    assert np.bincount(known.groups_N[found[0]]).tolist() == [5, 3, 4, 2]


def test_a_fit_is_scikit_learns() -> None:
    data = rows((40, 40, 40, 40))
    known = LogisticRegression(C=0.3, l1_ratio=1, solver="liblinear", max_iter=1000, random_state=0)
    known.fit(data.features_ND, data.labels_N)
    layer = fit(data, 0.3, 2)
    assert np.array_equal(layer.predict(data.features_ND), known.predict(data.features_ND))
    assert layer.weight_KD[0].tolist() == [0] * 6 and layer.weight_KD[1] == pytest.approx(known.coef_[0])
    assert (layer.weight_KD == 0).sum() > 6  # L1 sets features aside


def test_three_classes_are_told_apart() -> None:
    data = rows((30,) * 6, n_labels=3, seed=1)
    data.features_ND[:, 0] *= 3
    layer = fit(data, 1.0, 3)
    middle = data.labels_N == 1  # one against the rest cannot part the middle of a line from both ends
    assert (layer.predict(data.features_ND) == data.labels_N)[~middle].mean() > 0.9


@pytest.mark.parametrize("there", [(0, 2), (1, 2)])
def test_a_class_without_images_is_never_predicted(there: tuple[int, int]) -> None:
    data = rows((30, 30), n_labels=2, seed=2)
    data = data._replace(labels_N=np.array(there)[data.labels_N])
    assert set(fit(data, 1.0, 3).predict(data.features_ND * 100).tolist()) <= set(there)


def test_one_class_cannot_be_refitted() -> None:
    with pytest.raises(ValueError, match="two labels"):
        fit(rows((9, 9), n_labels=1), 1.0, 2)


def test_without_a_group_of_two_there_is_nothing_to_validate_on() -> None:
    lone = rows((1, 1, 1, 1))
    with pytest.raises(ValueError, match="no group has two validation images"):
        refit(rows((20,) * 4), lone, "dfr", 2, np.random.default_rng(0))
    # Training images teach, and one validation image of a group is enough to validate on.
    _, held_out, predicted = refit(rows((20,) * 4), lone, "dfr-train", 2, np.random.default_rng(0))
    assert len(held_out.labels_N) == len(predicted) == 4


def test_a_refit_takes_features_as_they_are() -> None:
    train, known, fair = rows((500, 10, 10, 500), seed=8), rows((60,) * 4, seed=10), rows((300,) * 4, seed=9)
    layer, held_out, _ = refit(train, known, "dfr", 2, np.random.default_rng(0))
    assert len(held_out.labels_N) == 120
    assert worst_group(layer.predict(fair.features_ND), fair) > 0.7
    # Another unit of measurement changes nothing.
    scale, shift = np.array([1, 10, 0.1, 5, 1, 1]), np.arange(6.0)
    other, _, _ = refit(
        *(r._replace(features_ND=r.features_ND * scale + shift) for r in (train, known)),
        "dfr",
        2,
        np.random.default_rng(0),
    )
    one, two = layer.predict(fair.features_ND), other.predict(fair.features_ND * scale + shift)
    logits = fair.features_ND @ layer.weight_KD.T + layer.bias_K
    # Rounding may decide where the two classes are as good as equal.
    assert (one == two)[np.abs(logits[:, 1] - logits[:, 0]) > 1e-3].all() and (one == two).mean() > 0.99


def test_the_strength_is_that_with_the_best_worst_group() -> None:
    learnt, held_out = rows((60, 60, 60, 60), seed=3), rows((40,) * 4, seed=4)
    strength, predicted = choose(learnt, held_out, 2, np.random.default_rng(5))
    subsample = learnt.take(balanced(learnt.groups_N, np.random.default_rng(5)))
    figures = {c: worst_group(fit(subsample, c, 2).predict(held_out.features_ND), held_out) for c in GRID}
    assert figures[strength] == max(figures.values()) == worst_group(predicted, held_out)


def test_layers_are_averaged() -> None:
    data = rows((200, 20, 20, 200), seed=6)
    rng = np.random.default_rng(7)
    layers = [fit(data.take(balanced(data.groups_N, rng)), 0.1, 2) for _ in range(5)]
    found = refitted(data, 0.1, 2, 5, np.random.default_rng(7))
    assert found.weight_KD == pytest.approx(np.mean([layer.weight_KD for layer in layers], 0))
    assert found.bias_K == pytest.approx(np.mean([layer.bias_K for layer in layers], 0))


def test_refitting_on_balanced_images_undoes_the_shortcut() -> None:
    biased, fair = rows((500, 10, 10, 500), seed=8), rows((300,) * 4, seed=9)
    shortcut = fit(biased, 1.0, 2)
    assert worst_group(shortcut.predict(fair.features_ND), fair) < 0.4
    layer = refitted(rows((60,) * 4, seed=10), 0.3, 2, 20, np.random.default_rng(0))
    assert worst_group(layer.predict(fair.features_ND), fair) > 0.7


def test_a_layer_for_scaled_features_takes_them_unscaled() -> None:
    data = rows((20, 20))
    mean, deviation = data.features_ND.mean(0), data.features_ND.std(0)
    layer = Linear(np.ones((2, 6)) * [[1], [2]], np.array([0.5, -1.0]))
    scaled, plain = (data.features_ND - mean) / deviation, layer.after(mean, deviation)
    expected = scaled @ layer.weight_KD.T + layer.bias_K
    assert data.features_ND @ plain.weight_KD.T + plain.bias_K == pytest.approx(expected)
