"""What images are compared with: a calibrated probe, and how often it recognises real images that it has not learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fairsynth.config import DataConfig, FinetuneConfig, SharedConfig
from fairsynth.groups import Group
from fairsynth.models.probe import fit_probe, halves
from fairsynth.stages.embed.output import RealImages
from fairsynth.stages.finetune.jobs import plan_shared
from fairsynth.stages.synthesize import filter_setup
from fairsynth.stages.synthesize.filter_setup import FilterSetup, set_up
from tests.models.test_probe import GROUPS, same, world
from tests.support.datasets import encoded, picture

BIASED = dict(zip(GROUPS, (60, 4, 4, 60), strict=True))
EVEN = dict.fromkeys(GROUPS, 30)


def real(counts: Mapping[Group, int], seed: int, noise: float = 0.4) -> RealImages:
    embeddings_ND, groups, ids = world(dict(counts), seed, label=3.0, noise=noise)
    thumbnails_N = np.random.default_rng(seed).integers(0, 256, (len(ids), 32, 32, 3), np.uint8)
    return RealImages(ids, groups, embeddings_ND, thumbnails_N)


def setup(train: RealImages, validation: RealImages) -> FilterSetup:
    texts = {group: str(group) for group in GROUPS}
    return set_up(train, validation, texts, Path("training"), iter([encoded(picture(0, 0, 0))]))


def test_real_images_are_judged_by_a_probe_that_has_not_learnt_from_them() -> None:
    train, validation = real(BIASED, 0, noise=1.5), real(EVEN, 1, noise=1.5)
    found = setup(train, validation)
    judged = {group: counts.judged for group, counts in found.recognised.items()}
    assert judged == dict(Counter(train.groups) + Counter(validation.groups))
    # Taught by all images, a probe recognises more of them: those it knows by heart.
    everything = fit_probe(
        np.concatenate([train.embeddings_ND, validation.embeddings_ND]),
        [*train.groups, *validation.groups],
        [*train.ids, *validation.ids],
    )
    by_heart = sum(
        one == other
        for images in (train, validation)
        for one, other in zip(everything.groups_of(images.embeddings_ND), images.groups, strict=True)
    )
    assert sum(counts.right for counts in found.recognised.values()) < by_heart


def test_the_filter_s_probe_has_learnt_from_one_half_of_validation_and_is_calibrated() -> None:
    train, validation = real(BIASED, 0, noise=1.5), real(EVEN, 1, noise=1.5)
    teaching = validation.take(halves(validation.ids, validation.groups).probe)
    plain = fit_probe(
        np.concatenate([train.embeddings_ND, teaching.embeddings_ND]),
        [*train.groups, *teaching.groups],
        [*train.ids, *teaching.ids],
    )
    probe = setup(train, validation).references.probe
    assert same(probe, plain) and probe.label_temperature != 1 != probe.attribute_temperature


def test_without_validation_images_training_images_are_judged_alone() -> None:
    found = setup(real(BIASED, 0), real({}, 1))
    assert {group: counts.judged for group, counts in found.recognised.items()} == BIASED
    assert found.probe_right == {"label": None, "attribute": None} and found.copy_threshold is None


@pytest.mark.parametrize("noise", [0.1, 6.0])
def test_what_cannot_be_told_apart_is_not_recognised(noise: float) -> None:
    found = setup(real(BIASED, 0, noise), real(EVEN, 1, noise))
    shares = [counts.right / counts.judged for counts in found.recognised.values()]
    assert min(shares) == 1.0 if noise < 1 else min(shares) < 0.7


def test_copies_are_looked_for_among_as_many_images_of_each_group_that_a_shared_adapter_has_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A uniform sample would lack the rare groups, which are learnt by heart."""
    monkeypatch.setattr(filter_setup, "DETECTOR_IMAGES", 20)
    train = real(BIASED, 0)
    job = plan_shared(
        FinetuneConfig(), SharedConfig(), DataConfig(), dict(zip(train.ids, train.groups, strict=True)), 0
    )
    assert job is not None
    filter_setup.write_training(tmp_path / "training", [job], train)
    learnt = pq.read_table(tmp_path / "training" / f"{job.name}.parquet")["image_id"].to_pylist()
    of = dict(zip(train.ids, train.groups, strict=True))
    # 4, 4, and the rest halved.
    assert Counter(of[image] for image in learnt) == dict(zip(GROUPS, (6, 4, 4, 6), strict=True))
