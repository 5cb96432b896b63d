"""What each method is: which images it sees, how often, and what it trains."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fairsynth.classify import training as classify
from fairsynth.classify.images import SYNTHETIC_SHARE, Data, Images, completed, learnt, mixed, order, taken
from fairsynth.classify.losses import GroupDRO
from fairsynth.classify.methods import Phase, need_synthetic
from fairsynth.classify.policies import Policy
from fairsynth.classify.training import Training
from tests.support.training import CONFIG, SETTING, data, flipped, images, run_of, same, state, train, validated

__all__ = ["data"]


@pytest.mark.parametrize(("method", "seed"), [("erm", 0), ("group-dro", 1), ("fairsynth", 0)])
def test_the_best_epoch_is_kept(data: Data, method: str, seed: int) -> None:
    # What is learnt is wrong on validation, so each epoch is worse than the one before.
    turned = Data(data.train, flipped(data.validation), flipped(data.synthetic), 2, 4)
    run, epochs = train(turned, method, seed, epochs=6)
    figures = [(e.worst_group_accuracy, e.accuracy) for e in epochs if e.selectable]
    assert max(figures) > figures[-1]
    assert run.best == [e for e in epochs if e.selectable][figures.index(max(figures))]  # the first of equals
    assert validated(run, turned) == pytest.approx(max(figures))


def test_the_stages_learn_from_the_images_that_are_theirs(data: Data) -> None:
    others = Data(images((20, 20, 4, 4), 9), data.validation, data.synthetic, 2, 4)
    (run, _), (changed, _) = (train(world, "fairsynth", epochs=1) for world in (data, others))
    assert same(state(run.model.encoder), state(changed.model.encoder))  # synthetic images alone
    assert not same(state(run.model.head), state(changed.model.head))  # real images
    erm, _ = train(data, "erm", epochs=1)
    without, _ = train(Data(data.train, data.validation, images((1,) * 4, 3), 2, 4), "erm", epochs=1)
    assert same(state(erm.model), state(without.model))


def test_group_dro_sees_every_group_equally_often(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    class Spy(GroupDRO):
        def __call__(self, losses_N: torch.Tensor, groups_N: torch.Tensor) -> torch.Tensor:
            seen.append(groups_N)
            return super().__call__(losses_N, groups_N)

    monkeypatch.setattr("fairsynth.classify.losses.GroupDRO", Spy)
    train(data, "group-dro", epochs=8)
    drawn = torch.cat(seen)
    # 480 draws with deviation .02 around one quarter; without balancing the smallest group had .067.
    assert len(drawn) == 480 and (drawn.bincount(minlength=4) / 480).tolist() == pytest.approx([0.25] * 4, abs=0.07)


def test_resampling_draws_every_group_equally_often(data: Data) -> None:
    run = run_of(data, "resample")
    (phase,) = run.phases
    assert phase.loss == "ce"
    drawn = np.concatenate([classify.batches.order(data.train, phase.sampling, run.rng) for _ in range(20)])
    assert len(drawn) == 1200
    shares = np.bincount(data.train.groups[drawn]) / 1200
    assert shares == pytest.approx([0.25] * 4, abs=0.05)


def test_a_group_without_images_is_never_drawn(data: Data) -> None:
    lone = data.train.groups != 1
    some = Images(data.train.pixels[lone], data.train.labels[lone], data.train.groups[lone])
    drawn = classify.batches.order(some, "groups", torch.Generator().manual_seed(0))
    assert set(some.groups[drawn].tolist()) == {0, 2, 3}


def test_ffr_learns_from_synthetic_images_and_then_trains_everything_on_real_ones(data: Data) -> None:
    run = run_of(data, "ffr")
    encoders = [(epoch, state(run.model.encoder)) for epoch in run.epochs()]
    assert [(e.stage, e.selectable) for e, _ in encoders] == [(1, False)] * 3 + [(2, True)] * 3
    assert not any(same(one, two) for (_, one), (_, two) in itertools.pairwise(encoders))
    assert [(p.images, p.loss, p.head_only) for p in run.phases] == [("synthetic", "ce", False), ("train", "ce", False)]
    # Its first stage is ERM on synthetic images, with fairsynth's budget.
    alone, _ = train(Data(data.synthetic, data.validation, data.synthetic, 2, 4), "erm", 7)
    assert [e.loss for e, _ in encoders[:3]] == [e.loss for e in alone.history]


def test_jtt_repeats_what_the_first_classifier_got_wrong_and_begins_anew(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []
    cut = classify.batches.cut

    def spy(places: np.ndarray, size: int) -> Any:
        drawn.append(places)
        return cut(places, size)

    monkeypatch.setattr(classify.batches, "cut", spy)
    run = Training("jtt", SETTING | {"epochs": 4.0}, data, CONFIG, 0)
    untrained, heads, wrong = state(run.model), [], None
    for epoch in run.epochs():
        if len(heads) == 1:  # after the first of two epochs of stage 1: not yet
            assert epoch.stage == 1
        if epoch.number == 1:
            wrong = run.probabilities(data.train).argmax(1) != data.train.labels
        heads.append(state(run.model))
    assert [len(places) for places in drawn[:2]] == [60, 60] and wrong is not None and 0 < wrong.sum() < 60
    for places in drawn[2:]:
        assert np.bincount(places, minlength=60).tolist() == np.where(wrong, 20, 1).tolist()
    alone = Training("erm", SETTING | {"epochs": 4.0}, data, CONFIG, 0)
    assert same(state(alone.model), untrained)  # where stage 2 begins again, too
    assert [(e.stage, e.selectable) for e in run.history] == [(1, False)] * 2 + [(2, True)] * 4


def test_dfr_is_scikit_learn_on_the_features_of_erm(data: Data) -> None:
    run, epochs = train(data, "dfr", 3)
    _, plain = train(data, "erm", 3)
    assert [e.loss for e in epochs[:3]] == [e.loss for e in plain]
    assert [e.selectable for e in epochs] == [False] * 3 + [True]
    # The encoder is that of ERM's last epoch, not of its best.
    train_features, known = (run._features(images).double().numpy() for images in (data.train, data.validation))
    scaler = StandardScaler().fit(train_features)
    rng = np.random.default_rng(3 + 2)
    groups, labels = data.validation.groups, data.validation.labels
    halves = [rng.permutation(np.flatnonzero(groups == g)) for g in range(4)]
    learnt, held_out = (np.concatenate([of_group[part] for of_group in halves]) for part in (slice(0, 4), slice(4, 8)))

    def subsample(places: np.ndarray) -> np.ndarray:
        smallest = min(np.bincount(groups[places]))
        return np.concatenate([rng.permutation(places[groups[places] == g])[:smallest] for g in range(4)])

    def model(strength: float, places: np.ndarray) -> LogisticRegression:
        fitted = LogisticRegression(C=strength, l1_ratio=1, solver="liblinear", max_iter=1000, random_state=0)
        return fitted.fit(scaler.transform(known[places]), labels[places])

    chosen, found = subsample(learnt), []
    for strength in (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01):
        right = model(strength, chosen).predict(scaler.transform(known[held_out])) == labels[held_out]
        found.append((min(right[groups[held_out] == g].mean() for g in range(4)), strength))
    assert epochs[-1].worst_group_accuracy == pytest.approx(max(found)[0])
    fits = [model(max(found)[1], subsample(np.arange(32))) for _ in range(20)]
    coefficients = np.mean([fit.coef_[0] for fit in fits], 0)
    logits = scaler.transform(known) @ coefficients + np.mean([fit.intercept_[0] for fit in fits])
    assert run.probabilities(data.validation)[:, 1] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-4)
    weight = run.model.head.weight.detach().numpy()
    assert weight[0] == pytest.approx(0) and weight[1] == pytest.approx(
        coefficients / scaler.scale_, rel=1e-3, abs=1e-5
    )


def test_validation_images_teach_dfrs_layer_and_no_other_methods(data: Data) -> None:
    other = Data(data.train, flipped(data.validation), data.synthetic, 2, 4)
    for method, taught in (("dfr", True), ("erm", False), ("reweight", False)):
        # One epoch: there is nothing to choose between.
        runs = [train(world, method, epochs=1)[0] for world in (data, other)]
        assert same(*(state(run.model.encoder) for run in runs))
        assert same(*(state(run.model.head) for run in runs)) != taught


def test_filling_up_takes_from_the_synthetic_images_what_each_group_lacks(data: Data) -> None:
    run = run_of(data, "fill")
    images = run._images(run.phases[0])
    # Groups of 24, 4, 8, 24 get at most the 12 that there are.
    assert np.bincount(images.groups).tolist() == [24, 4 + 12, 8 + 12, 24]
    assert np.array_equal(images.pixels[np.arange(60)], data.train.pixels)
    rest = images.pixels[np.arange(60, 84)]
    assert all((data.synthetic.pixels == one).all((1, 2, 3)).any() for one in rest)
    mixed = run_of(data, "mix")._images(run_of(data, "mix").phases[0])
    assert len(mixed) == 60 + 48 and np.array_equal(
        mixed.pixels[np.array([107, 0])], np.stack([data.synthetic.pixels[47], data.train.pixels[0]])
    )


def test_reweighting_makes_the_rare_groups_heard(data: Data) -> None:
    run = run_of(data, "reweight")
    loss = run._loss(run.phases[0], data.train, None)
    with torch.no_grad():
        features = torch.zeros(4, 96)
        labels, groups = torch.tensor([0, 0, 1, 1]), torch.arange(4)
        ce = torch.nn.functional.cross_entropy(run.model.head(features), labels, reduction="none")
        # 1/24 : 1/4 : 1/8 : 1/24, which add up to 11/24; the sum of the weights is 4.
        weights = torch.tensor([1, 6, 3, 1]) * 4 / 11
        assert loss(features, labels, groups).item() == pytest.approx((weights * ce).mean().item(), rel=1e-5)


@pytest.mark.parametrize("method", ["lff", "lisa", "afr"])
def test_rivals_learn_a_biased_set(data: Data, method: str) -> None:
    # Nine in ten images follow the attribute; whoever goes by it alone has no image of a rare group right.
    world = Data(images((36, 4, 4, 36), 5), images((8,) * 4, 6), data.synthetic, 2, 4)
    run, epochs = train(world, method, epochs=6)
    unseen = Data(world.train, images((25,) * 4, 8), data.synthetic, 2, 4)
    worst, accuracy = validated(run, unseen)
    assert worst > 0.7 and accuracy > 0.8
    assert all(np.isfinite(e.loss) for e in epochs)


def test_fairsynth_needs_no_synthetic_images_where_it_is_told_to_use_none() -> None:
    real = CONFIG.model_copy(update={"synthetic": "none"})
    assert need_synthetic(["erm", "fairsynth"], CONFIG) and not need_synthetic(["erm", "fairsynth"], real)
    assert need_synthetic(["ffr", "fairsynth"], real) and not need_synthetic(["erm", "dfr"], CONFIG)


def test_what_learns_from_validation_sees_all_of_it_every_group_alike_and_ends_with_the_mean(data: Data) -> None:
    config = CONFIG.model_copy(update=Policy("none", "none", "learn", "light")._asdict())
    run = Training("fairsynth", SETTING, data, config, 0)
    (phase,) = run.phases
    seen = learnt(phase, data, 0)
    assert len(seen) == len(data.train) + len(data.validation) and (phase.sampling, phase.averaged) == (
        "groups",
        True,
    )
    places = np.concatenate([order(seen, phase.sampling, torch.Generator().manual_seed(s)) for s in range(200)])
    shares = np.bincount(seen.groups[places], minlength=4) / len(places)
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.01)
    # The last epoch alone may be chosen; its weights are no step's.
    epochs = list(run.epochs())
    assert [e.selectable for e in epochs] == [False] * (len(epochs) - 1) + [True]
    assert run._loop and run._loop.average
    assert same(state(run.model), run._loop.average.state)


@pytest.mark.parametrize("synthetic", ["mix", "fill"])
def test_where_groups_are_drawn_alike_synthetic_images_are_as_many_in_each(data: Data, synthetic: str) -> None:
    """Else how real an image looks would tell its group."""
    config = CONFIG.model_copy(update=Policy(synthetic, "none", "learn", "light")._asdict())  # type: ignore[arg-type]
    (phase,) = Training("fairsynth", SETTING, data, config, 0).phases
    seen = learnt(phase, data, 0)
    assert seen.made is not None and len(seen) - seen.made.sum() == len(data.train) + len(data.validation)
    places = np.concatenate([order(seen, phase.sampling, torch.Generator().manual_seed(s)) for s in range(300)])
    groups, made = seen.groups[places], seen.made[places]
    assert (np.bincount(groups, minlength=4) / len(places)).tolist() == pytest.approx([0.25] * 4, abs=0.01)
    for group in np.unique(seen.groups[seen.made]):
        assert made[groups == group].mean() == pytest.approx(SYNTHETIC_SHARE, abs=0.03)


def test_a_group_with_images_of_one_kind_is_drawn_as_often_as_others(data: Data) -> None:
    seen = mixed(data.train, data.synthetic, np.flatnonzero(data.synthetic.groups == 2))
    places = np.concatenate([order(seen, "groups", torch.Generator().manual_seed(s)) for s in range(300)])
    assert (np.bincount(seen.groups[places], minlength=4) / len(places)).tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_without_synthetic_images_the_policies_are_the_methods_of_these_names(data: Data) -> None:
    """ERM and Group-DRO to the bit."""
    for stage_2, method in (("none", "erm"), ("group-dro", "group-dro"), ("dfr", "dfr")):
        config = CONFIG.model_copy(update={"synthetic": "none", "stage_2": stage_2})
        ours, theirs = Training("fairsynth", SETTING, data, config, 4), Training(method, SETTING, data, CONFIG, 4)
        assert list(ours.epochs()) == list(theirs.epochs())
        assert same(state(ours.model), state(theirs.model))


def test_a_group_that_was_not_made_is_filled_from_its_real_images(data: Data) -> None:
    made = data.synthetic.groups != 1
    lacking = taken(data.synthetic, np.flatnonzero(made))
    whole = completed(lacking, data.train, np.random.default_rng(0))
    assert np.bincount(whole.groups).tolist() == [12, 12, 12, 12]
    real = data.train.pixels[np.flatnonzero(data.train.groups == 1)]
    filled = whole.pixels[np.flatnonzero(whole.groups == 1)]
    assert all(any(np.array_equal(image, one) for one in real) for image in filled)
    # Stages on synthetic images see it, alone or mixed; a set that lacks nothing, or has nothing, stays.
    without = Data(data.train, data.validation, lacking, 2, 4)
    for which, expected in (("synthetic", 12), ("mixed", 12 + 4)):
        assert np.bincount(learnt(Phase("ce", 1, images=which), without, 0).groups)[1] == expected
    assert completed(data.synthetic, data.train, np.random.default_rng(0)) is data.synthetic
    empty = taken(data.synthetic, np.zeros(0, np.int64))
    assert completed(empty, data.train, np.random.default_rng(0)) is empty
