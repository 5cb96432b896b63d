"""Adapters, images and search costs against small cases worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fairsynth.classify.policies import FEW
from fairsynth.commands.plan.adapters import AdapterPlan, left_out_notes, plan_adapters
from fairsynth.commands.plan.data import in_words
from fairsynth.commands.plan.images import ImagesPlan, plan_synthesis
from fairsynth.commands.plan.search import Images, final_cost, search_cost, smallest
from fairsynth.commands.plan.span import Span
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError
from fairsynth.groups import Group
from fairsynth.models.probe import Recognised

LARGE, RARE = Group("cat", "in"), Group("cat", "out")
OTHER, SAME = Group("dog", "out"), Group("dog", "in")
TRAIN = {LARGE: 100, RARE: 5, OTHER: 35, SAME: 0}
EVERY = [LARGE, RARE, SAME, OTHER]


def config(**settings: Any) -> RunConfig:
    keys = {key.replace("__", "."): value for key, value in settings.items()}
    return load_config(None, "demo", {"cluster.k": 3, "cluster.min_size": 10, "finetune.max_epochs": None, **keys})


def adapters(**settings: Any) -> AdapterPlan:
    return plan_adapters(config(**settings), {group: n for group, n in TRAIN.items() if n})


def images(**settings: Any) -> ImagesPlan:
    return plan_synthesis(config(**settings), TRAIN, EVERY, adapters(**settings))


def test_clusters_need_images_enough() -> None:
    assert adapters().clusters == {LARGE: Span(1, 3, 3), RARE: Span.of(0), OTHER: Span(1, 3, 3)}
    assert adapters(cluster__k=5).clusters[OTHER] == Span(1, 3, 3)  # 35 images in clusters of 10 or more
    assert adapters(cluster__k="auto", cluster__max_k=6).clusters[LARGE] == Span(1, 3, 6)


@pytest.mark.parametrize(("generator", "units"), [("vanilla", 0), ("lora", 2 + 1), ("dreambooth", 2 + 1)])
def test_other_generators_have_one_for_each_group_or_none(generator: str, units: int) -> None:
    assert adapters(finetune__generator=generator).units == Span.of(units)


def test_steps_and_samples() -> None:
    plan = adapters(finetune__steps=80, shared__steps=300)
    assert plan.steps == Span(2 * 80 + 300, 6 * 80 + 300, 6 * 80 + 300)
    # Twelve samples of the adapter and four of the prior in each step; the shared one has 32.
    assert plan.samples.likely == 6 * 80 * 16 + 300 * 32
    few = adapters(finetune__steps=80, finetune__max_epochs=2, shared__use=False)
    # Clusters of 34, 33, 33, 12, 12 and 11 images: two passes of each in batches of 12.
    assert few.steps.likely == 3 * 6 + 3 * 2 and not few.shared


def test_class_images_are_units() -> None:
    plan = adapters(finetune__prior="images", finetune__class_images=7)
    assert plan.class_images == 2 * 7 and plan.units == Span(2 + 1 + 2, 6 + 1 + 2, 6 + 1 + 2)


def test_known_clusters_are_taken() -> None:
    plan = plan_adapters(config(), {LARGE: 100, OTHER: 35}, {LARGE: [60, 40], OTHER: [35]})
    assert plan.units == Span.of(2 + 1 + 1) and [a.images for a in plan.adapters] == [60, 40, 35]


def test_routes_as_they_are_decided() -> None:
    by_group = {plan.group: plan for plan in images().groups}
    assert by_group.keys() == {LARGE, RARE, OTHER}  # a group without training images is skipped
    assert by_group[RARE].tried == ("same-attribute", "shared", "prompt") and not by_group[RARE].route
    assert by_group[RARE].lender == str(OTHER)
    ways = {
        "paper": "same-label",
        "own": "prompt",
        "same-attribute": "same-attribute",
        "shared": "shared",
        "prompt": "prompt",
    }
    for routing, route in ways.items():
        plan = images(synthesize__routing=routing)
        assert {p.group: p.route for p in plan.groups}[RARE] == route and plan.trial_images == 0
    assert images(synthesize__routes={"cat/out": "composed"}).groups[1].route == "composed"
    made = images(synthesize__absent_groups="make")
    assert {p.group for p in made.groups} == {*EVERY}


def test_impossible_routes_are_refused() -> None:
    with pytest.raises(ConfigError, match="no adapter for that"):
        images(synthesize__routes={"cat/out": "own"})


def test_quotas_and_rounds() -> None:
    plan = images(synthesize__per_group=90, filter__keep=0.75, filter__max_rounds=2, synthesize__routing="prompt")
    assert plan.images == Span(0, 3 * 120, 3 * 120 + 3 * 4 * 90)
    assert plan.units.likely == 3 * 2  # 64 images in a unit
    filled = images(synthesize__per_group="largest", synthesize__fill=True, classify__synthetic="fill")
    assert {p.group: p.quota for p in filled.groups} == {LARGE: 0, RARE: 95, OTHER: 65}


def test_costs_of_trainings() -> None:
    seen = Images(train=640, validation=300, test=900, synthetic=0, filling=0, smallest=90)
    one = config(tune__methods=["erm"], tune__trials=1, classify__augmentation="light", evaluate__seeds=2)
    epochs = one.classify.pretrain_epochs
    assert search_cost(one, seen).steps == epochs * 10
    assert search_cost(one, seen).visits == pytest.approx(epochs * (640 + 100))
    assert final_cost(one, seen).visits == pytest.approx(2 * (epochs * (640 + 100) + 300))
    # Strong changes: an epoch has about 2,500 images.
    strong = config(tune__methods=["erm"], tune__trials=1, classify__augmentation="strong")
    assert search_cost(strong, seen).steps == epochs * 4 * 10
    styles = config(tune__methods=["erm"], tune__trials=1, classify__augmentation="styles")
    assert search_cost(styles, seen).steps == epochs * 16 * 10


def test_a_trial_that_learns_from_validation_is_trained_for_each_half() -> None:
    seen = Images(train=640, validation=300, test=900, synthetic=0, filling=0, smallest=90)
    named = {"classify__synthetic": "none", "classify__stage_2": "none", "classify__augmentation": "light"}
    chooses, both = (config(tune__methods=["fairsynth"], tune__trials=trials, **named) for trials in (1, 2))
    epochs = both.classify.pretrain_epochs
    # One training, by whose epochs either half chooses; then two, which learn from a half each.
    assert search_cost(chooses, seen).visits == pytest.approx(epochs * (640 + 100))
    learns = search_cost(both, seen).visits - search_cost(chooses, seen).visits
    assert learns == pytest.approx(2 * epochs * (640 + 150 + 50))


def test_a_limit_on_the_search_ends_it(tmp_path: object) -> None:
    from fairsynth.commands.plan.estimate import times
    from fairsynth.commands.plan.rates import stated
    from fairsynth.commands.plan.rows import Row

    limited = config(tune__worker_minutes=1, tune__trials=80, tune__wave=8)
    known = stated(limited)
    rows = {"tune": Row("tune", Span.of(80), 1e9, 0.0, 80)}
    long = times(config(), rows, {"tune": 1.0}, {}, known, 2)["tune"].likely
    assert times(limited, rows, {"tune": 1.0}, {}, known, 2)["tune"].likely == pytest.approx(30 + long / 10, rel=0.01)


def test_where_a_group_has_few_images_other_policies_come_first() -> None:
    """A single trial learns from validation either way, with few by styles, which take longer; DFR's turn comes only with many."""
    few, many = (Images(640, 300, 900, synthetic=0, filling=0, smallest=n) for n in (FEW - 1, FEW))
    one, two = (config(tune__methods=["fairsynth"], tune__trials=n, classify__synthetic="none") for n in (1, 2))
    assert 3.5 < search_cost(one, few).visits / search_cost(one, many).visits < 4.5
    once_more = search_cost(two, few).visits - search_cost(one, few).visits
    assert once_more == pytest.approx(search_cost(one, many).visits), "strong changes, without styles"
    assert search_cost(two, many).visits < 2 * search_cost(one, many).visits


def test_the_smallest_group_is_that_of_both_splits() -> None:
    a, b, c = (Group("label", name) for name in "abc")
    assert smallest({a: 1, b: 30}, {a: 30, b: 3, c: 40}) == 31 and smallest({}, {}) == 0


def test_groups_whose_images_nobody_could_judge_get_neither_adapters_nor_images() -> None:
    train, known = {group: n for group, n in TRAIN.items() if n}, {LARGE: [60, 40], OTHER: [35]}
    without = {"out": {OTHER: Recognised(20, 40)}}
    plan = plan_adapters(config(), train, known, without)
    assert {adapter.group for adapter in plan.adapters} == {LARGE} and plan.shared
    (note,) = left_out_notes(config(), plan)
    assert note.startswith("no adapters for out,") and "(dog, out) 20 of 40" in note
    found = {group.group: group for group in plan_synthesis(config(), TRAIN, EVERY, plan).groups}
    assert {group for group, its in found.items() if not its.quota} == {RARE, OTHER}
    assert in_words(found[RARE]).startswith("not made:") and found[LARGE].quota == 300 and [*found] == sorted(found)
    none = plan_adapters(config(), train, known, without | {"in": {LARGE: Recognised(20, 40)}})
    assert not none.shared and none.units == Span.of(0) and none.samples == Span.of(0)
    assert plan_synthesis(config(), TRAIN, EVERY, none).images == Span.of(0)
