"""Training: reproducible, chosen by validation, and a frozen encoder that stays frozen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler

from fairsynth.classify import training as classify
from fairsynth.classify.epoch import Epoch
from fairsynth.classify.images import Data, Images
from fairsynth.classify.losses import GroupDRO
from fairsynth.classify.methods import TITLES
from fairsynth.classify.training import Training, saved_epochs
from fairsynth.config import ClassifyConfig
from tests.support.datasets import picture

CONFIG = ClassifyConfig(backbone="small", image_size=32, batch_size=16, pretrain_epochs=3, finetune_epochs=3)
SETTING = {
    "learning_rate": 3e-3, "weight_decay": 1e-3, "step_size": 0.1, "beta": 0.5, "temperature": 0.1,
    "head_learning_rate": 1e-2, "head_weight_decay": 1e-2, "epochs": 3, "adjustment": 1.0,
    "full_learning_rate": 1e-3, "full_weight_decay": 1e-3, "first_share": 0.5, "up_weight": 20.0,
}  # fmt: skip
# Every method, and fairsynth with each way to use its synthetic images.
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (name, {}) for name in TITLES},
    "full": ("fairsynth", {"stage_2": "full"}),
    "then group-dro": ("fairsynth", {"stage_2": "group-dro"}),
    "then dfr": ("fairsynth", {"stage_2": "dfr"}),
    "mix": ("fairsynth", {"synthetic": "mix", "stage_2": "none"}),
    "mix then dfr": ("fairsynth", {"synthetic": "mix", "stage_2": "dfr"}),
    "fill": ("fairsynth", {"synthetic": "fill", "stage_2": "none"}),
}


def images(sizes: tuple[int, ...], seed: int) -> Images:
    """Label: brightness of the left half; groups g = 2 y + a of the given sizes."""
    groups = np.repeat(np.arange(4), sizes)
    pixels = [np.asarray(picture(int(g) // 2, int(g) % 2, 1000 * seed + i, 32)) for i, g in enumerate(groups)]
    return Images(np.stack(pixels), groups // 2, groups)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(images((24, 4, 8, 24), 0), images((8,) * 4, 1), images((12,) * 4, 2), 2, 4)


def train(data: Data, method: str, seed: int = 0, **changed: float) -> tuple[Training, list[Epoch]]:
    """A finished training run and its epochs."""
    run = Training(method, SETTING | changed, data, CONFIG, seed)
    return run, list(run.epochs())


def judged(run: Training, data: Data) -> tuple[float, float]:
    """Validation WGA and accuracy of the run's model, from its probabilities."""
    right = run.probabilities(data.validation).argmax(1) == data.validation.labels
    return min(right[data.validation.groups == g].mean() for g in range(4)), right.mean()


def state(module: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """A copy of all weights and buffers."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> bool:
    """Bit-identical."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def run_of(data: Data, way: str, seed: int = 7) -> Training:
    """A training run that has not begun."""
    method, how = WAYS[way]
    return Training(method, SETTING, data, CONFIG.model_copy(update=how), seed)


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_decides_everything(data: Data, way: str) -> None:
    torch.manual_seed(1)
    first = run_of(data, way)
    epochs = list(first.epochs())
    torch.manual_seed(2)
    again, other = run_of(data, way), run_of(data, way, 8)
    same_epochs = list(again.epochs())
    list(other.epochs())
    assert epochs == same_epochs == first.history and [e.number for e in epochs] == list(range(len(epochs)))
    assert np.array_equal(first.probabilities(data.validation), again.probabilities(data.validation))
    assert not np.array_equal(first.probabilities(data.validation), other.probabilities(data.validation))


class Killed(Exception):
    """The machine is gone."""


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(data: Data, way: str, tmp_path: Path) -> None:
    whole = run_of(data, way)
    epochs = list(whole.epochs())
    for lives in range(1, len(epochs) + 2):
        run = run_of(data, way)
        if run.restore(tmp_path / "state.safetensors"):
            assert run.history == epochs[: lives - 1]
        seen = []
        for epoch in saved_epochs(run, tmp_path / "state.safetensors", 0.0):
            seen.append(epoch)
            if len(seen) == lives and lives <= len(epochs):
                # The epoch is over; its state is written when the next is asked for.
                run.save(tmp_path / "state.safetensors")
                break
    assert seen == epochs and run.best == whole.best
    assert same(state(run.model), state(whole.model))


def test_a_run_killed_in_an_epoch_goes_on_from_the_last_whole_one(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, epochs = train(data, "group-dro", 7)
    run, batches_seen = run_of(data, "group-dro"), 0
    seen = type(run)._seen

    def dies(self: Training, *args: Any) -> torch.Tensor:
        nonlocal batches_seen
        batches_seen += 1
        # In the middle of the second epoch, after the first has used up random numbers and moved the weights.
        if batches_seen == 6:
            raise Killed
        return seen(self, *args)

    monkeypatch.setattr(Training, "_seen", dies)
    with pytest.raises(Killed):
        list(saved_epochs(run, tmp_path / "state.safetensors", 0.0))
    again = run_of(data, "group-dro")
    assert list(saved_epochs(again, tmp_path / "state.safetensors", 0.0)) == epochs
    assert batches_seen == 6 + 8 and same(state(again.model), state(whole.model))


@pytest.mark.parametrize("other", [{"seed": 8}, {"setting": SETTING | {"epochs": 4}}, {"method": "erm"}])
def test_the_state_of_another_run_is_none(data: Data, tmp_path: Path, other: dict[str, Any]) -> None:
    run = run_of(data, "group-dro")
    next(run.epochs())
    run.save(tmp_path / "state")
    arguments = {"method": "group-dro", "setting": SETTING, "data": data, "config": CONFIG, "seed": 7}
    assert Training(**arguments).restore(tmp_path / "state")  # type: ignore[arg-type]
    assert not Training(**arguments | other).restore(tmp_path / "state")  # type: ignore[arg-type]
    assert not run.restore(tmp_path / "none")


def test_training_leaves_the_global_random_numbers_alone(data: Data) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train(data, "fairsynth", epochs=1)
    assert torch.equal(torch.rand(4), expected)


def test_probabilities_are_distributions(data: Data) -> None:
    run, _ = train(data, "erm", epochs=1)
    found = run.probabilities(data.train)
    assert found.shape == (60, 2) and found.dtype == np.float32
    assert found.min() >= 0 and found.sum(1) == pytest.approx(1, abs=1e-5)
    # Images do not see each other: normalisation uses what was learnt.
    alone = run.probabilities(Images(data.train.pixels[:1], data.train.labels[:1], data.train.groups[:1]))
    assert alone[0] == pytest.approx(found[0], abs=1e-5)


def test_erm_learns_a_separable_task(data: Data) -> None:
    balanced = Data(images((15,) * 4, 5), data.validation, data.synthetic, 2, 4)
    run, epochs = train(balanced, "erm", epochs=8)
    assert len(epochs) == 8 and epochs[-1].loss < epochs[0].loss
    assert judged(run, data)[1] > 0.9


def test_stage_two_trains_the_linear_layer_and_not_one_bit_of_the_encoder(data: Data) -> None:
    run = Training("fairsynth", SETTING, data, CONFIG, 0)
    untrained, frozen, heads = state(run.model.encoder), None, []
    for epoch in run.epochs():
        if epoch.stage == 1:
            frozen = state(run.model.encoder)
        heads.append(state(run.model.head))
        assert epoch.stage == 1 or (frozen and same(state(run.model.encoder), frozen))
    assert frozen and not same(untrained, frozen)
    assert same(state(run.model.encoder), frozen)
    assert not any(same(one, two) for one, two in itertools.pairwise(heads))


def test_stages_and_what_may_be_chosen(data: Data) -> None:
    _, epochs = train(data, "fairsynth", epochs=2)
    assert [(e.number, e.stage, e.selectable) for e in epochs] == [
        (0, 1, False),
        (1, 1, False),
        (2, 2, True),
        (3, 2, True),
        (4, 2, True),
    ]
    _, epochs = train(data, "erm", epochs=2)
    assert [(e.number, e.stage, e.selectable) for e in epochs] == [(0, 1, True), (1, 1, True)]


def flipped(given: Images) -> Images:
    """The same images with the other label."""
    return Images(given.pixels, 1 - given.labels, given.groups)


@pytest.mark.parametrize(("method", "seed"), [("erm", 0), ("group-dro", 1), ("fairsynth", 0)])
def test_the_best_epoch_is_kept(data: Data, method: str, seed: int) -> None:
    # What is learnt is wrong on validation, so each epoch is worse than the one before.
    turned = Data(data.train, flipped(data.validation), flipped(data.synthetic), 2, 4)
    run, epochs = train(turned, method, seed, epochs=6)
    figures = [(e.worst_group_accuracy, e.accuracy) for e in epochs if e.selectable]
    assert max(figures) > figures[-1]
    assert run.best == [e for e in epochs if e.selectable][figures.index(max(figures))]  # the first of equals
    assert judged(run, turned) == pytest.approx(max(figures))


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

    monkeypatch.setattr(classify, "GroupDRO", Spy)
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
    learnt, judged = (np.concatenate([mine[part] for mine in halves]) for part in (slice(0, 4), slice(4, 8)))

    def subsample(places: np.ndarray) -> np.ndarray:
        smallest = min(np.bincount(groups[places]))
        return np.concatenate([rng.permutation(places[groups[places] == g])[:smallest] for g in range(4)])

    def model(strength: float, places: np.ndarray) -> LogisticRegression:
        fitted = LogisticRegression(C=strength, l1_ratio=1, solver="liblinear", max_iter=1000, random_state=0)
        return fitted.fit(scaler.transform(known[places]), labels[places])

    chosen, found = subsample(learnt), []
    for strength in (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01):
        right = model(strength, chosen).predict(scaler.transform(known[judged])) == labels[judged]
        found.append((min(right[groups[judged] == g].mean() for g in range(4)), strength))
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


@pytest.mark.parametrize("rule", ["worst-group", "worst-class", "accuracy"])
def test_epochs_are_chosen_by_the_rule(data: Data, rule: Any) -> None:
    turned = Data(data.train, flipped(data.validation), data.synthetic, 2, 4)
    run = Training("erm", SETTING | {"epochs": 6.0}, turned, CONFIG, 1, rule)
    epochs = list(run.epochs())
    figure = {"worst-group": "worst_group_accuracy", "worst-class": "worst_class_accuracy"}.get(rule, "accuracy")
    assert run.best is not None and getattr(run.best, figure) == max(getattr(e, figure) for e in epochs)


def test_the_worst_class_is_the_smallest_recall(data: Data) -> None:
    run, _ = train(data, "erm", epochs=2)
    predicted = run.probabilities(data.validation).argmax(1)
    recalls = recall_score(data.validation.labels, predicted, average=None)
    assert run.best is not None and run.best.worst_class_accuracy == pytest.approx(min(recalls))


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
