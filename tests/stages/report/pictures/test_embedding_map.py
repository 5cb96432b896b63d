"""The embedding map: principal components, real and synthetic images alike, the same map every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fairsynth.groups import Group
from fairsynth.manifest import TRAIN
from fairsynth.stages.cluster.output import read_clusters
from fairsynth.stages.report.pictures.drawn import draw
from fairsynth.stages.report.pictures.embedding_map import Points, maps, project
from tests.support.report.finished_stages import World, finished

GROUPS = [Group("ja", "a"), Group("nein", "a")]


def test_the_components_are_those_of_the_largest_spread() -> None:
    chance = np.random.default_rng(0)
    plane = chance.normal(size=(200, 2)) * (5, 2)
    turned = np.linalg.qr(chance.normal(size=(10, 10)))[0][:2]
    xy, variance = project((plane @ turned + 3).astype(np.float64), np.ones(200))
    assert variance == pytest.approx(1)
    centred = plane - plane.mean(0)
    assert np.abs(xy).max(0) == pytest.approx(np.abs(centred @ np.linalg.svd(centred, full_matrices=False)[2].T).max(0))
    assert xy[:, 0].std() > xy[:, 1].std()


def test_few_real_images_weigh_as_much_as_many_synthetic_ones() -> None:
    # Two real images differ along one axis, a hundred synthetic ones along another, a little less.
    real, made = (
        np.diag([2.0, 0.0])[[0, 0]] * [[1], [-1]],
        np.diag([0.0, 1.9])[[1] * 100] * np.tile([[1], [-1]], (50, 1)),
    )
    vectors = np.concatenate([real, made])
    xy, _ = project(vectors, np.array([1 / 2] * 2 + [1 / 100] * 100))
    assert np.abs(xy[:2, 0]) == pytest.approx([2, 2])
    assert np.abs(project(vectors, np.ones(102))[0][:2, 0]) == pytest.approx([0, 0])


def test_every_group_has_a_map_with_its_clusters(tmp_path: Path) -> None:
    inputs, _ = finished(tmp_path, World(GROUPS, clusters=3))
    clusters = read_clusters(inputs.artifacts["cluster"])
    drawn = draw(inputs.artifacts["synthesize"], inputs.manifest.split(TRAIN), clusters, 0, 6)
    found = maps(drawn, inputs.artifacts["embed"], inputs.artifacts["synthesize"], clusters)
    assert [one.group for one in found] == GROUPS
    for one in found:
        assert (one.real, one.synthetic, one.clusters) == (12, 12, [0, 1, 2]) and 0 < one.variance <= 1
        assert sum(len(part.xy_N2) for part in one.points) == 24
        assert all(part.xy_N2.min() >= 0 and part.xy_N2.max() <= 100 for part in one.points)
    again = maps(drawn, inputs.artifacts["embed"], inputs.artifacts["synthesize"], clusters)
    assert [part.path for one in found for part in one.points] == [part.path for one in again for part in one.points]


def test_a_group_of_other_adapters_is_grey(tmp_path: Path) -> None:
    inputs, _ = finished(tmp_path, World(GROUPS))
    drawn = draw(inputs.artifacts["synthesize"], inputs.manifest.split(TRAIN), {}, 0, 6)
    for row in drawn[0].accepted:
        row["adapter"] = "shared="
    first = maps(drawn, inputs.artifacts["embed"], inputs.artifacts["synthesize"], {})[0]
    assert first.clusters == [] and {part.colour for part in first.points} == {"c-none"}


def test_points_are_drawn_as_dots_and_crosses() -> None:
    xy = np.array([[1.0, 2.04]])
    assert Points(False, None, xy).path == "M1.0 2.0h0" and Points(True, 9, xy).path == "M0.0 2.0h2m-1-1v2"
    assert (Points(True, 9, xy).colour, Points(False, None, xy).colour) == ("c1", "c-none")
