"""Which adapters there are: one per cluster or group, as the generator says."""

from __future__ import annotations

import pytest

from fairsynth.adapter_jobs import AdapterJob
from fairsynth.config import DataConfig, FinetuneConfig
from fairsynth.groups import Group
from fairsynth.stages.finetune import lots, plan_adapters, uses_prior

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


@pytest.mark.parametrize("per_run", [1, 2, 3, 4, 9])
def test_lots_cut_the_jobs_in_order(per_run: int) -> None:
    jobs = planned("clustered-dreambooth")
    cut = lots(jobs, per_run)
    assert [job for lot in cut for job in lot] == jobs
    assert len(cut) == -(-len(jobs) // per_run) and all(1 <= len(lot) <= per_run for lot in cut)
    assert lots([], per_run) == []


@pytest.mark.parametrize(
    ("generator", "weight", "expected"),
    [
        ("dreambooth", 1, True),
        ("clustered-dreambooth", 0.5, True),
        ("clustered-dreambooth", 0, False),
        ("lora", 1, False),
        ("vanilla", 1, False),
    ],
)
def test_prior_preservation_belongs_to_dreambooth(generator: str, weight: float, expected: bool) -> None:
    assert uses_prior(FinetuneConfig(generator=generator, prior_weight=weight)) is expected
