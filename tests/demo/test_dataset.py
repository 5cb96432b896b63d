"""The demo dataset: no digit and no part of a photograph in two splits, bias as asked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fairsynth.demo import dataset
from tests.support.ingesting import decided


def _groups(images: list, split: str) -> Counter:
    return Counter((i.label, i.attribute) for i in images if i.split == split)


def test_digits_are_never_shared_between_splits() -> None:
    images = dataset.build()
    sources = {split: {i.source for i in images if i.split == split} for split in dataset.SPLIT_SIZES}
    assert (
        not sources["train"] & sources["val"]
        and not sources["train"] & sources["test"]
        and not sources["val"] & sources["test"]
    )
    assert {split: len(found) for split, found in sources.items()} == dataset.SPLIT_SIZES


def test_training_crops_come_from_other_parts_of_the_photographs() -> None:
    import numpy as np

    photo = np.broadcast_to((np.arange(640) // (640 // 6)).astype(np.uint8)[None, :, None] * 40, (427, 640, 3)).copy()
    seen = {
        training: {
            round(float(v) / 28)
            for seed in range(40)
            for v in np.unique(dataset._crop(photo, "flower", training, np.random.default_rng(seed)))
        }
        for training in (True, False)
    }
    assert seen == {True: {0, 2, 4}, False: {1, 3, 5}}


@pytest.mark.parametrize("severity", [0.9, 0.95, 0.99])
def test_training_has_the_asked_bias_and_the_rest_is_balanced(severity: float) -> None:
    images = dataset.build(severity)
    train = _groups(images, "train")
    aligned = train["low", "building"] + train["high", "flower"]
    assert aligned / sum(train.values()) == pytest.approx(severity, abs=0.005)
    for split in ("val", "test"):
        groups = _groups(images, split)
        assert (
            groups["low", "building"] == groups["low", "flower"]
            and groups["high", "building"] == groups["high", "flower"]
        )


@pytest.mark.slow
def test_conflicting_images_are_nested() -> None:
    conflicting = [
        {i.file_name for i in dataset.build(s) if i.split == "train" and dataset.ALIGNED[i.label] != i.attribute}
        for s in (0.9, 0.95, 0.99)
    ]
    assert conflicting[0] > conflicting[1] > conflicting[2]


@pytest.mark.slow
def test_written_and_read_back_in_a_real_layout(tmp_path: Path) -> None:
    root = dataset.write(tmp_path / "demo")
    read = decided(root)
    images = dataset.build()
    assert {(r["path"], r["label"], r["attribute"], r["split"]) for r in read.manifest.rows()} == {
        (i.file_name, i.label, i.attribute, i.split) for i in images
    }
    assert read.counts.quarantined == 0
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert dataset.write(tmp_path / "demo") == root
    assert before == {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
