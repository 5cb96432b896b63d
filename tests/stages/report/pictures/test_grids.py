"""The pictures of the report: random by the seed, of each group and cluster, and none of what is to be hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fairsynth.data.location import ImageReader
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN
from fairsynth.stages.cluster.output import read_clusters
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.report.page import page
from fairsynth.stages.report.pictures.drawn import Drawn, draw
from fairsynth.stages.report.pictures.grids import PER_CLUSTER, grids
from fairsynth.stages.report.pictures.shown import shown
from tests.support.report.finished_stages import World, finished
from tests.support.report.texts import report_of

GROUPS = [Group("ja", "a"), Group("nein", "a")]


def drawn_of(inputs: Inputs, seed: int = 0) -> list[Drawn]:
    clusters = read_clusters(inputs.artifacts["cluster"])
    return draw(inputs.artifacts["synthesize"], inputs.manifest.split(TRAIN), clusters, seed, PER_CLUSTER)


def made(tmp_path: Path, **changed: object) -> tuple[Inputs, ImageReader]:
    return finished(tmp_path, World(GROUPS, **changed))  # type: ignore[arg-type]


def test_images_are_drawn_by_the_seed(tmp_path: Path) -> None:
    inputs, _ = made(tmp_path)
    one, again, other = ([[row["image_id"] for row in d.real] for d in drawn_of(inputs, seed)] for seed in (0, 0, 1))
    assert one == again != other and [sorted(ids) for ids in one] == [sorted(ids) for ids in other]
    for group in drawn_of(inputs):
        assert {row["split"] for row in group.real} == {"train"}
        assert all(
            (row["label"], row["attribute"]) == group.group for row in (*group.real, *group.accepted, *group.rejected)
        )
        assert {row["verdict"] for row in group.accepted} == {"accepted"} and len(group.accepted) == 12


def test_each_group_and_cluster_has_its_row_with_true_numbers(tmp_path: Path) -> None:
    inputs, images = made(tmp_path)
    found = grids(drawn_of(inputs), inputs.artifacts["synthesize"], images, "shown")
    assert [grid.group for grid in found] == GROUPS
    whole = found[0].whole
    assert (whole.real.shown, whole.real.total, whole.accepted.shown, whole.accepted.total) == (12, 12, 12, 12)
    assert [(sheet.caption, sheet.shown, sheet.total) for sheet in whole.rejected] == [
        ("rejected: fits its words and its group less than the others", 2, 2),
        ("rejected: does not show its label", 2, 2),
    ]
    assert [row.title for row in found[0].clusters] == ["Cluster 0", "Cluster 1"]
    sums = [
        [sum(row.real.total for row in grid.clusters), sum(row.accepted.total for row in grid.clusters)]
        for grid in found
    ]
    assert sums == [[12, 12]] * 2
    assert sum(sheet.total for row in found[0].clusters for sheet in row.rejected) == 4


def test_a_groups_only_adapter_is_no_clusters_own(tmp_path: Path) -> None:
    """It is called like that of the first cluster, and made the images of all."""
    inputs, images = made(tmp_path)
    finetune = inputs.config.finetune.model_copy(update={"generator": "dreambooth"})
    alone = replace(inputs, config=inputs.config.model_copy(update={"finetune": finetune}))
    for of, own in ((inputs, True), (alone, False)):
        found = shown(of, images, "")
        assert [row.accepted is not None for grid in found.grids for row in grid.clusters] == [own] * 4
        made_ = {part.cluster for map in found.maps for part in map.points if part.synthetic}
        assert made_ == ({0, 1} if own else {None})
        seen = page(report_of() | {"generator": of.config.finetune.generator}, found)
        assert ("each has an adapter of its own" in seen) is own
        assert ("The clusters had no adapters of their own" in seen) is not own


def test_hidden_pictures_are_not_there_and_blurred_ones_are_others(tmp_path: Path) -> None:
    inputs, images = made(tmp_path)
    drawn, synthesized = drawn_of(inputs), inputs.artifacts["synthesize"]
    assert grids(drawn, synthesized, images, "hidden") == []
    shown, blurred = (grids(drawn, synthesized, images, faces) for faces in ("shown", "blurred"))
    for clear, dim in zip(shown, blurred, strict=True):
        for row, dim_row in zip((clear.whole, *clear.clusters), (dim.whole, *dim.clusters), strict=True):
            pairs = zip(
                (row.real, row.accepted, *row.rejected),
                (dim_row.real, dim_row.accepted, *dim_row.rejected),
                strict=True,
            )
            assert all(one.uri != other.uri or not one.uri for one, other in pairs)


def test_without_synthetic_images_the_real_ones_are_shown(tmp_path: Path) -> None:
    inputs, images = made(tmp_path, images=0)
    found = grids(drawn_of(inputs), inputs.artifacts["synthesize"], images, "shown")
    assert [(grid.whole.real.shown, grid.whole.accepted.shown, list(grid.whole.rejected)) for grid in found] == [
        (12, 0, [])
    ] * 2


def test_clusters_of_a_group_that_others_adapters_made_show_real_images_alone(tmp_path: Path) -> None:
    inputs, images = made(tmp_path, images=0)
    found = grids(drawn_of(inputs), inputs.artifacts["synthesize"], images, "shown")
    rows = [(row.title, row.accepted, list(row.rejected)) for row in found[0].clusters]
    assert rows == [("Cluster 0", None, []), ("Cluster 1", None, [])]
    assert sum(row.real.total for row in found[0].clusters) == 12 and all(row.real.shown for row in found[0].clusters)
