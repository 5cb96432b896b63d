"""Plans of published datasets against figures computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.data.celeba import CELEBA, celeba, celeba_rows
from tests.support.data.planning import exact, planned, stage, waterbirds


def test_waterbirds(tmp_path: Path) -> None:
    plan = planned(tmp_path / "out", "waterbirds", 2.0, data__root=str(waterbirds(tmp_path / "birds")))
    assert plan["dataset"]["images"] == 11_788 and plan["dataset"]["format"] == "waterbirds"
    # 11788 / 512; 4795 / 128 and 1199 / 128, each rounded up; four groups.
    assert stage(plan, "ingest")["units"] == exact(24)
    assert stage(plan, "embed")["units"] == exact(38 + 10) and stage(plan, "embed")["images"] == exact(4795 + 1199)
    assert stage(plan, "cluster")["units"] == exact(4)
    # Up to 6 clusters of 10 or more images, of 56 images 5; and the shared adapter. 800 steps each, 2000 the shared one.
    finetune = stage(plan, "finetune")
    assert (finetune["units"]["least"], finetune["units"]["most"]) == (4 + 1, 6 + 6 + 5 + 6 + 1)
    assert (finetune["steps"]["least"], finetune["steps"]["most"]) == (4 * 800 + 2000, 23 * 800 + 2000)
    # As many of each group as the largest has, 3498, of which the filter keeps three in four; 24 by each of four routes.
    images = stage(plan, "synthesize")["images"]
    assert images["least"] == 4 * 4 * 24 and images["likely"] == 4 * 4664 + 4 * 4 * 24
    assert images["most"] == images["likely"] + 3 * 4 * 4 * 3498
    assert [group["wanted"] for group in plan["groups"]] == [3498] * 4
    assert [group["real"] for group in plan["groups"]] == [3498, 184, 56, 1057]
    assert {tuple(group["decided_among"]) for group in plan["groups"]} == {
        ("own", "same-attribute", "shared", "prompt")
    }
    assert stage(plan, "tune")["units"] == exact(3 * 16) and stage(plan, "evaluate")["units"] == exact(3 * 3)
    # Decoded images: training, validation and synthetic ones, three bytes a pixel.
    assert stage(plan, "tune")["disk_bytes"] == (4795 + 1199 + 4 * 3498) * 224 * 224 * 3
    hours = plan["worker_hours"]["likely"]
    assert hours == pytest.approx(plan["seconds"]["likely"] * 2 / 3600, abs=1e-3)
    assert plan["cost"]["likely"] == pytest.approx(2 * hours, abs=0.01)


def test_a_search_by_hand(tmp_path: Path) -> None:
    """Two trials of ERM, 50 epochs of 4795 images in batches of 128: after 5 epochs one goes on."""
    root = str(waterbirds(tmp_path / "birds"))
    settings = {"tune__methods": ["erm"], "tune__trials": 2, "data__root": root}
    plan = planned(tmp_path / "out", "waterbirds", **settings)
    assert stage(plan, "tune")["steps"]["most"] == (2 * 5 + 1 * 45) * 38
    assert stage(plan, "evaluate")["steps"]["most"] == 3 * 50 * 38
    # What goes through the classifier: images that it learns from, and a third for those that it is judged by.
    pieces = (2 * 5 + 45) * (4795 + 1199 / 3)
    tune = stage(plan, "tune")
    seconds = tune["rate"]["start_seconds"] + pieces / (2 * tune["rate"]["per_second"])
    assert tune["seconds"]["likely"] == pytest.approx(seconds, abs=0.1)


@pytest.mark.slow
def test_celeba(tmp_path: Path) -> None:
    root = celeba(tmp_path / "celeba", celeba_rows(CELEBA))
    plan = planned(tmp_path / "out", "celeba", data__root=str(root))
    assert plan["dataset"]["images"] == 202_599
    # 202599 / 512; 162770 / 128 and 19867 / 128.
    assert stage(plan, "ingest")["units"] == exact(396)
    assert stage(plan, "embed")["units"] == exact(1272 + 156)
    assert stage(plan, "finetune")["units"]["most"] == 4 * 6 + 1
    assert stage(plan, "finetune")["steps"]["most"] == 4 * 6 * 1000 + 2000
    assert stage(plan, "synthesize")["images"]["likely"] == 4 * 13_334 + 4 * 4 * 24
    assert stage(plan, "tune")["disk_bytes"] == (162_770 + 19_867 + 40_000) * 224 * 224 * 3
    assert "research" in plan["terms"]["dataset"] and "confirmed" in plan["terms"]["dataset"]
    assert any("anonymity" in text for text in plan["privacy"])
    assert [group["real"] for group in plan["groups"]] == [71_629, 66_874, 22_880, 1387]


def test_discovered_attributes_are_said_to_be_unknown(tmp_path: Path) -> None:
    root = str(waterbirds(tmp_path / "birds"))
    plan = planned(tmp_path / "out", "waterbirds", data__root=root, data__attribute="discover")
    assert [group["attribute"] for group in plan["groups"]] == ["kind-1", "kind-2"] * 2
    assert [group["real"] for group in plan["groups"]] == [1841, 1841, 557, 556]
    assert any("discovered" in note for note in plan["notes"])
    assert stage(plan, "cluster")["units"] == exact(4)
