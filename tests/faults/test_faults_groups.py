"""Fault cases 29 to 35 of CASES.md: groups that are missing, tiny or cannot be split, and vectors that are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fairsynth.config import ClusterConfig, DataConfig, FinetuneConfig, ImageRules, RunConfig
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows, write_plan
from fairsynth.data.vectors import matrix
from fairsynth.errors import DataError
from fairsynth.groups import Group
from fairsynth.metrics import score
from fairsynth.preflight import check_early
from fairsynth.stages.cluster.kmeans import cluster_group
from fairsynth.stages.embed.embedding import DecodeUnit, EmbedUnit, plan_rows, unit_length
from fairsynth.stages.finetune.jobs import plan_adapters
from fairsynth.stages.ingest.decide import check_k
from fairsynth.stages.synthesize.image_plan import quotas
from tests.support.datasets import tiny_folder_dataset, unchanged, write_rows
from tests.support.ingesting import DEMO_MODELS, decided, ingested, inspected

SIZES = {"train": (12, 11, 11, 12), "val": (4,) * 4, "test": (4,) * 4}
GROUPS = [Group(y, a) for y in ("cat", "dog") for a in ("indoor", "outdoor")]


def without(split: str, number: int, left: int = 0) -> Mapping[str, Sequence[int]]:
    """Sizes in which one group of a split has so many images."""
    return SIZES | {split: tuple(left if i == number else n for i, n in enumerate(SIZES[split]))}


def early(root: Path, **config: Any) -> None:
    """The checks that end a hopeless run before anything starts."""
    data = {"root": str(root), **config.pop("data", {})}
    with unchanged(root):
        check_early(RunConfig(data=data, **config), root.parent / "out")


@pytest.mark.parametrize(
    ("labels", "attributes", "message"),
    [
        (
            ("cat", "cat"),
            ("in", "out"),
            "the training split has the single label 'cat'; a classifier needs two or more",
        ),
        (("cat", "dog"), ("in", "in"), "every image has the same attribute; there is no group to be fair to"),
    ],
)
def test_case_29_one_label_or_one_attribute_is_refused(
    tmp_path: Path, labels: tuple[str, str], attributes: tuple[str, str], message: str
) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES, labels, attributes)
    with pytest.raises(DataError, match=message):
        early(root)
    assert message in inspected(root)["problems"][0]


def test_case_29_no_rows_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "data" / "metadata.csv", ("file_name", "split", "label", "attribute"), [])
    with pytest.raises(DataError, match="has no rows"):
        early(tmp_path / "data")


def test_case_30_a_group_without_training_images_is_told_and_made_only_if_asked(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", without("train", 1), photos=True)
    found = ingested(root, tmp_path / "out")
    assert found.record["remarks"] == [
        "group (cat, outdoor) has no training images: nothing to learn it from, it is not synthesised"
    ]
    counts = found.manifest.split("train").counts()
    assert quotas(counts, "largest").keys() == {*GROUPS} - {GROUPS[1]}
    (group,) = (g for g in inspected(root)["groups"] if (g["label"], g["attribute"]) == GROUPS[1])
    assert (group["train"], group["val"], group["fate"]) == (0, 4, "no training images: not synthesised")


def test_case_31_a_group_without_validation_images_is_refused_unless_allowed(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", without("val", 2), photos=True)
    with pytest.raises(
        DataError, match=r"^group \(dog, indoor\) has no validation images.*--data\.allow_missing true$"
    ):
        early(root)
    assert "group (dog, indoor) has no validation images" in inspected(root)["problems"][0]
    early(root, data={"allow_missing": True})
    found = ingested(root, tmp_path / "out", allow_missing=True)
    remark = "group (dog, indoor) has no validation images: settings are chosen without it"
    assert found.record["remarks"] == [remark]


def test_case_31_a_group_without_test_images_has_no_accuracy_and_is_not_the_worst(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", without("test", 3), photos=True)
    found = ingested(root, tmp_path / "out")
    assert found.record["remarks"] == ["group (dog, outdoor) has no test images: its accuracy is undefined (n = 0)"]
    tests = found.manifest.split("test").groups()
    scores = score([group != GROUPS[1] for group in tests], tests, GROUPS, found.manifest.split("train").counts())
    assert [(g.n, g.accuracy) for g in scores.groups] == [(4, 1), (4, 0), (4, 1), (0, None)]
    assert scores.worst.group == GROUPS[1] and scores.worst_group_accuracy == 0


@pytest.mark.parametrize("n", [1, 9])
def test_case_32_a_tiny_group_gets_no_adapter_and_is_told(tmp_path: Path, n: int) -> None:
    root = tiny_folder_dataset(tmp_path / "data", without("train", 1, n), photos=True)
    (group,) = (g for g in inspected(root)["groups"] if (g["label"], g["attribute"]) == GROUPS[1])
    assert (group["train"], group["fate"]) == (
        n,
        "fewer than 10 training images: no adapter of its own",
    )
    members = decided(root).manifest.split("train").of_group(GROUPS[1]).column("image_id")
    result = cluster_group(ClusterConfig(), GROUPS[1], members, unit(n), 0)
    assert (result.k, result.assignment) == (
        0,
        {},
    ) and f"{n} images are fewer than cluster.min_group 10" in result.remark
    assert plan_adapters(FinetuneConfig(), DataConfig(), {GROUPS[1]: result.assignment}, 0) == []
    early(root, cluster={"k": 5})  # its size is no reason to refuse k


def unit(n: int, dimensions: int = 16, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors."""
    vectors = np.random.default_rng(seed).normal(size=(n, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_case_33_more_clusters_than_images_are_refused_early(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    with pytest.raises(DataError) as caught:
        early(root, cluster={"k": 12})
    expected = "cluster.k is 12, but group (cat, outdoor) has only 11 training images; set --cluster.k to 11 or less, or to auto"
    assert str(caught.value) == expected
    for fine in ({"cluster": {"k": 11}}, {"cluster": {"k": 12}, "finetune": {"generator": "lora"}}, {}):
        early(root, **fine)
    check_k(RunConfig(cluster={"k": 50, "min_group": 100}), decided(root).manifest.split("train").counts())


def test_case_33_clusters_below_the_minimum_lower_k_with_a_remark() -> None:
    # Images can fall away after the early check; then k follows.
    ids = [f"{i:02d}" for i in range(12)]
    result = cluster_group(ClusterConfig(k=20, min_size=3, min_group=5), GROUPS[0], ids, unit(12), 0)
    sizes = np.bincount(list(result.assignment.values()))
    assert 1 <= result.k <= 4 and len(sizes) == result.k and sizes.min() >= 3 and sizes.sum() == 12
    assert result.remark == f"k lowered from 20 to {result.k}: every cluster needs 3 images"


class Spoilt:
    """An encoder that some images make give no vector."""

    def __init__(self, bad: Mapping[int, float]) -> None:
        self.bad = bad

    def images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors, but for the bad ones, which hold a single value everywhere."""
        vectors = unit(len(pixels))
        for place, value in self.bad.items():
            vectors[place] = value
        return vectors


def test_case_34_vectors_that_are_none_are_quarantined_and_never_clustered(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", SIZES)
    rows = decided(root).manifest.split("train").table
    (name,) = write_plan(tmp_path / "plan.parquet", plan_rows(rows), 100, "images")
    decode = DecodeUnit(Storage(str(root)), PlanRows(tmp_path / "plan.parquet"), 32, ImageRules())
    work = EmbedUnit(RunConfig(models=DEMO_MODELS).models, posteriors=False, batch=100)
    work.encoder = Spoilt({3: np.nan, 7: np.inf, 11: 0.0})
    with unchanged(root):
        made = work(decode(name))
    ordered = plan_rows(rows).to_pylist()
    gone = {ordered[place]["path"] for place in (3, 7, 11)}
    bad = made["bad"].to_pylist()
    assert {row["path"] for row in bad} == gone and {row["reason"] for row in bad} == {"bad_embedding"}
    embedded, ids = matrix(made["embeddings"], "embedding"), made["embeddings"].column("image_id").to_pylist()
    assert unit_length(embedded).all() and len(ids) == 46 - 3
    assert ids == [row["image_id"] for row in ordered if row["path"] not in gone]
    result = cluster_group(ClusterConfig(k=2), GROUPS[0], ids, embedded, 0)
    assert set(result.assignment) == set(ids)


@pytest.mark.parametrize("k", [1, 4, "auto"])
def test_case_35_equal_vectors_are_one_cluster_with_a_remark_that_says_why(k: int | str) -> None:
    ids = [f"{i:02d}" for i in range(30)]
    result = cluster_group(ClusterConfig(k=k), GROUPS[0], ids, np.repeat(unit(1), 30, 0), 0)
    assert (result.k, result.assignment) == (1, dict.fromkeys(ids, 0))
    assert result.remark == "all images have the same embedding: one cluster"
