"""Which adapters there are: one per cluster or group, as the generator says."""

from __future__ import annotations

import pytest

from fairsynth.config import DataConfig, FinetuneConfig, SharedConfig
from fairsynth.groups import Group
from fairsynth.stages.finetune.jobs import (
    SHARED,
    AdapterJob,
    lot_name,
    lots,
    needs_class_images,
    plan_adapters,
    plan_shared,
    recipe,
    shared_settings,
)

A, B = Group("0", "0"), Group("1", "1")
CLUSTERS = {B: {"b2": 0, "b1": 0}, A: {"a1": 1, "a2": 0, "a3": 1, "a4": 2}, Group("1", "0"): {}}
DATA = DataConfig(label_names={"0": "landbird", "1": "waterbird"}, attribute_names={"0": "on land", "1": "on water"})


def planned(generator: str, **options: object) -> list[AdapterJob]:
    """The jobs of a generator."""
    return plan_adapters(FinetuneConfig(generator=generator, **options), DATA, CLUSTERS, 0)


def test_clustered_dreambooth_has_one_adapter_per_cluster_with_its_own_token() -> None:
    jobs = planned("clustered-dreambooth")
    assert [(job.group, job.cluster, job.image_ids, job.prompt) for job in jobs] == [
        (A, 0, ("a2",), "a photo of a sks landbird, on land"),
        (A, 1, ("a1", "a3"), "a photo of a ohwx landbird, on land"),
        (A, 2, ("a4",), "a photo of a zwx landbird, on land"),
        (B, 0, ("b1", "b2"), "a photo of a sks waterbird, on water"),
    ]
    assert {job.class_prompt for job in jobs} == {"a photo of a landbird, on land", "a photo of a waterbird, on water"}


@pytest.mark.parametrize(("generator", "token"), [("dreambooth", "sks "), ("lora", "")])
def test_one_adapter_per_group(generator: str, token: str) -> None:
    jobs = planned(generator)
    assert [(job.group, job.image_ids, job.prompt) for job in jobs] == [
        (A, ("a1", "a2", "a3", "a4"), f"a photo of a {token}landbird, on land"),
        (B, ("b1", "b2"), f"a photo of a {token}waterbird, on water"),
    ]


@pytest.mark.parametrize(
    ("prior_group", "expected"),
    [
        ("own", {A: "landbird, on land", B: "waterbird, on water"}),
        ("same-attribute", {A: "waterbird, on land", B: "landbird, on water"}),
        ("same-label", {A: "landbird, on water", B: "waterbird, on land"}),
    ],
)
def test_a_prior_may_be_of_the_group_that_borrows(prior_group: str, expected: dict[Group, str]) -> None:
    # Groups without adapters count too. Of several the smallest: a third label has more images than the others.
    counts = {A: 90, B: 80, Group("0", "1"): 1, Group("1", "0"): 2, Group("third", "0"): 40, Group("third", "1"): 50}
    config = FinetuneConfig(prior_group=prior_group)
    jobs = plan_adapters(config, DATA, CLUSTERS, 0, counts)
    assert {job.group: job.class_prompt.removeprefix("a photo of a ") for job in jobs} == expected
    assert [job.prompt for job in jobs] == [job.prompt for job in planned("clustered-dreambooth")]
    alone = plan_adapters(config, DATA, CLUSTERS, 0, {A: 90, B: 80})
    assert [job.class_prompt for job in alone] == [job.class_prompt for job in planned("clustered-dreambooth")]


def test_vanilla_has_no_adapters() -> None:
    assert planned("vanilla") == []


def test_tokens_are_given_in_turn_when_clusters_are_many() -> None:
    clusters = {A: {str(i): i for i in range(5)}}
    jobs = plan_adapters(FinetuneConfig(rare_tokens=("one", "two")), DATA, clusters, 0)
    assert [job.prompt.split()[4] for job in jobs] == ["one", "two", "one", "two", "one"]


def test_names_and_seeds_are_unique_also_for_hostile_groups() -> None:
    groups = [Group(y, a) for y in ("a", "a--b", "a/b", "a b", "ä", "") for a in ("b", "c", "0", "--0", "b--0", "../x")]
    jobs = plan_adapters(FinetuneConfig(), DataConfig(), {g: {"i": 0, "j": 1} for g in groups}, 0)
    assert len(jobs) == 2 * len(groups)
    assert len({job.name for job in jobs}) == len({job.seed for job in jobs}) == len(jobs)
    assert all("/" not in job.name and not job.name.startswith(".") for job in jobs)


def test_a_job_depends_on_its_own_group_and_the_seed() -> None:
    alone = plan_adapters(FinetuneConfig(), DATA, {A: CLUSTERS[A]}, 0)
    assert alone == [job for job in planned("clustered-dreambooth") if job.group == A]
    assert not {job.seed for job in plan_adapters(FinetuneConfig(), DATA, CLUSTERS, 1)} & {job.seed for job in alone}


def test_the_order_of_groups_and_images_changes_nothing() -> None:
    turned = {group: dict(reversed(images.items())) for group, images in reversed(CLUSTERS.items())}
    assert plan_adapters(FinetuneConfig(), DATA, turned, 0) == planned("clustered-dreambooth")


@pytest.mark.parametrize(
    ("images", "epochs", "expected"), [(10, 6, 15), (11, 6, 17), (1, 1, 1), (1000, 6, 400), (3, None, 400)]
)
def test_small_clusters_get_fewer_steps(images: int, epochs: int | None, expected: int) -> None:
    config = FinetuneConfig(steps=400, batch_size=4, max_epochs=epochs)
    jobs = plan_adapters(config, DATA, {A: {str(i): 0 for i in range(images)}}, 0)
    assert [job.steps for job in jobs] == [expected]  # epochs * images / 4, rounded up, at most 400


def _jobs_of(steps: list[int]) -> list[AdapterJob]:
    return [AdapterJob(A, i, (), "p", "c", i, number, 1e-4) for i, number in enumerate(steps)]


@pytest.mark.parametrize("per_lot", [1, 2, 3, 4, 9, None])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_job_is_in_one_lot_and_lots_are_of_the_size_asked_for(per_lot: int | None, workers: int) -> None:
    jobs = _jobs_of([7, 3, 9, 1, 5, 5, 2])
    cut = lots(jobs, workers, per_lot)
    assert sorted(job.name for lot in cut for job in lot) == sorted(job.name for job in jobs)
    assert len(cut) == (workers if per_lot is None else -(-len(jobs) // per_lot))
    assert max(map(len, cut)) - min(map(len, cut)) <= 1
    assert lots([], workers, per_lot) == []


def test_lots_have_about_equally_much_to_do() -> None:
    cut = lots(_jobs_of([100] * 10 + [10] * 10), 2)
    assert [sum(job.steps for job in lot) for lot in cut] == [550, 550]


def test_a_lot_has_64_adapters_at_most_where_nobody_says_otherwise() -> None:
    assert [len(lot) for lot in lots(_jobs_of([5] * 200), 1)] == [50] * 4
    assert [len(lot) for lot in lots(_jobs_of([5] * 200), 8)] == [25] * 8


def test_the_name_of_a_lot_depends_on_its_members_and_hides_their_text() -> None:
    jobs = _jobs_of([3, 2, 1])
    assert lot_name(jobs) == lot_name(jobs[::-1]) != lot_name(jobs[:2])
    assert jobs[0].name not in lot_name(jobs)


@pytest.mark.parametrize(
    ("generator", "weight", "expected"),
    [
        ("dreambooth", 1, 7),
        ("clustered-dreambooth", 0.5, 7),
        ("clustered-dreambooth", 0, 0),
        ("lora", 1, 0),
        ("vanilla", 1, 0),
    ],
)
def test_prior_preservation_belongs_to_dreambooth(generator: str, weight: float, expected: int) -> None:
    config = FinetuneConfig(generator=generator, prior_weight=weight, prior_batch_size=7)
    assert config.prior_size == expected
    assert not needs_class_images(config), "the teacher needs none"
    assert needs_class_images(config.model_copy(update={"prior": "images"})) is bool(expected)


def test_the_samples_of_the_prior_are_as_many_as_the_others_where_nobody_says_otherwise() -> None:
    assert FinetuneConfig(batch_size=5).prior_size == 5


def test_jobs_carry_the_rate_and_the_warm_up_of_the_config() -> None:
    assert {
        (job.learning_rate, job.warmup_steps) for job in planned("dreambooth", learning_rate=0.5, warmup_steps=3)
    } == {(0.5, 3)}


@pytest.mark.parametrize(
    ("given", "unused"),
    [
        ({}, {"full_learning_rate": 1.0, "class_images": 3, "checkpoint_every": 9, "max_failed_share": 0.5}),
        ({"parameters": "full"}, {"learning_rate": 1.0, "rank": 3, "alpha": 5, "target_modules": ("to_q",)}),
        (
            {"generator": "lora"},
            {"rare_tokens": ("abc",), "prior": "images", "prior_weight": 0.5, "prior_batch_size": 2},
        ),
        ({"prior": "images"}, {"full_learning_rate": 1.0}),
    ],
    ids=str,
)
def test_a_field_that_is_not_used_does_not_train_again_and_any_other_does(given: dict, unused: dict) -> None:
    config = FinetuneConfig(**given)
    assert recipe(config.model_copy(update=unused)) == recipe(config)
    kept = {name: value for name, value in config.model_dump().items() if name not in unused}
    assert recipe(config).keys() >= kept.keys() - {
        "checkpoint_every", "max_failed_share", "class_images", "full_learning_rate", "prior_group", "frozen_weights",
    }  # fmt: skip
    borrowed = recipe(config.model_copy(update={"prior_group": "same-label"})) != recipe(config)
    assert borrowed == (given.get("generator") != "lora")
    rounded = config.model_copy(update={"frozen_weights": "int8"})
    assert recipe(rounded) != recipe(config)
    for name, value in {"steps": 7, "batch_size": 3, "warmup_steps": 2, "prompt": "x", "snr_ceiling": 1.0}.items():
        assert recipe(config.model_copy(update={name: value})) != recipe(config), name
    if given == {"prior": "images"}:
        assert recipe(config.model_copy(update={"class_images": 3})) != recipe(config)


def test_one_adapter_learns_all_groups_by_their_prompts() -> None:
    groups = {"b1": B, "a2": A, "a1": A}
    job = plan_shared(FinetuneConfig(), SharedConfig(steps=30, learning_rate=2e-3), DATA, groups, 0)
    assert job is not None and (job.name, job.image_ids, job.steps) == (SHARED, ("a1", "a2", "b1"), 30)
    assert job.texts == ("a photo of a landbird, on land", "a photo of a waterbird, on water", "")
    assert job.kinds is not None and job.kinds.of_image == (0, 0, 1)
    # Nobody else's unit has such a name.
    assert "=" in SHARED and all("=" not in other.name for other in planned("clustered-dreambooth"))


def test_its_learning_rate_rises_and_falls() -> None:
    job = plan_shared(FinetuneConfig(), SharedConfig(steps=100, learning_rate=1.0, warmup_steps=4), DATA, {"a": A}, 0)
    assert job is not None and [job.rate(step) for step in (1, 2, 4)] == pytest.approx([0.25, 0.5, 1.0], rel=0.01)
    assert job.rate(51) == pytest.approx(0.5) and 0 < job.rate(100) < 1e-3
    # That of others stays.
    (other, *_) = planned("clustered-dreambooth")
    assert other.rate(50) == other.rate(400) == other.learning_rate


def test_it_is_trained_without_a_prior_and_holds_nothing_out() -> None:
    settings = shared_settings(FinetuneConfig(rank=4), SharedConfig(rank=8, batch_size=5))
    assert (settings.rank, settings.batch_size, settings.prior_size, settings.validation_share) == (8, 5, 0, 0)


def test_of_a_large_group_it_takes_no_more_images_than_its_steps_see_whatever_their_order() -> None:
    groups = {f"{i:03}": A for i in range(100)} | {"x": B, "y": B}
    shared = SharedConfig(steps=4, batch_size=5)
    job = plan_shared(FinetuneConfig(), shared, DATA, groups, 0)
    again = plan_shared(FinetuneConfig(), shared, DATA, dict(reversed(groups.items())), 0)
    assert job is not None and job == again and len(job.image_ids) == 10 + 2 and {"x", "y"} < set(job.image_ids)
    assert job.kinds is not None and job.kinds.of_image.count(1) == 2


def test_where_prompts_do_not_tell_the_groups_apart_there_is_none() -> None:
    unnamed = DATA.model_copy(update={"attribute": "discover", "attribute_names": {}})
    assert plan_shared(FinetuneConfig(), SharedConfig(), unnamed, {"a": A, "b": Group("0", "1")}, 0) is None
    assert plan_shared(FinetuneConfig(), SharedConfig(), unnamed, {"a": A, "b": B}, 0) is not None
    assert plan_shared(FinetuneConfig(), SharedConfig(), DATA, {}, 0) is None
