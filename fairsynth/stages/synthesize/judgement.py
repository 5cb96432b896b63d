"""What synthetic images are judged by, made ready before the first one is generated."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact
from fairsynth.data.copies import THUMBNAIL_BYTES, CopyDetector, copy_threshold
from fairsynth.data.location import same_content
from fairsynth.data.vectors import vectors
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, VALIDATION, seed_for
from fairsynth.models.probe import Probe, fit_probe, halves
from fairsynth.prompts import fill
from fairsynth.stages.context import Context
from fairsynth.stages.embed.output import RealImages, real_images
from fairsynth.stages.finetune.step import planned_jobs
from fairsynth.stages.synthesize.codec import Codec, source_codec
from fairsynth.stages.synthesize.generate import Judgement, centroids

T = TypeVar("T")
# Files that tell the codec, training images that the detector is set by, and real images that it is set with.
CODEC_FILES, DETECTOR_IMAGES, THRESHOLD_IMAGES = 200, 4000, 1000


class Judged(NamedTuple):
    """The judgement, the codec of the files, the score from which on an image is a copy (None: no image to set it by)."""

    judgement: Judgement
    codec: Codec
    copy_threshold: float | None
    probe_right: Mapping[str, float | None]
    """How often the probe is right on validation images that it has not seen."""


def prepare(context: Context, artifact: Artifact, groups: Sequence[Group]) -> Judged:
    """Fit the probe, find the codec, lay out what each adapter learnt; the test split is not looked at.

    One half of the validation images teaches the probe and sets the threshold of copies, the other is held out.
    """
    train, validation = real_images(context, TRAIN), real_images(context, VALIDATION)
    split = halves(validation.ids, validation.groups)
    teaching, held_out = validation.take(split.probe), validation.take(split.held_out)
    probe = filter_probe(train, teaching)
    right: dict[str, float | None] = {"label": None, "attribute": None}
    if len(held_out):
        found = probe.agreement(held_out.embeddings_ND, held_out.groups)
        right = {name: float((part >= 0.5).mean()) for name, part in zip(right, found, strict=True)}
    texts = group_texts(context, groups)
    judgement = Judgement(
        texts, centroids(train.groups, train.embeddings_ND), probe, _training(context, artifact, train)
    )
    return Judged(judgement, source_codec(_files(context)), _threshold(train, teaching), right)


def filter_probe(train: RealImages, teaching: RealImages) -> Probe:
    """The probe that the filter goes by; of validation images it has seen the teaching half alone."""
    together = np.concatenate([train.embeddings_ND, teaching.embeddings_ND])
    return fit_probe(together, [*train.groups, *teaching.groups], [*train.ids, *teaching.ids])


def group_texts(context: Context, groups: Sequence[Group] = ()) -> dict[Group, str]:
    """The prompt of every group that labels and attributes can make, and of these."""
    labels, attributes = context.group_names
    every = {*groups, *(Group(label, attribute) for label in labels for attribute in attributes)}
    return {group: fill(context.config.synthesize.prompt, context.config.data, group) for group in sorted(every)}


def _training(context: Context, artifact: Artifact, train: RealImages) -> Path:
    """For each adapter a file with ids, embeddings and thumbnails of what it learnt: of a sample, if that is much."""
    folder, place = artifact.path / "training", {image: i for i, image in enumerate(train.ids)}
    folder.mkdir(exist_ok=True)
    for job in planned_jobs(context):
        mine = train.take([place[image] for image in sample(job.image_ids, DETECTOR_IMAGES)])
        small = pa.array([thumbnail.tobytes() for thumbnail in mine.thumbnails_N], pa.binary(THUMBNAIL_BYTES))
        columns: dict[str, Any] = {"image_id": pa.array(mine.ids), "embedding": vectors(mine.embeddings_ND)}
        pq.write_table(pa.table(columns | {"thumbnail": small}), folder / f"{job.name}.parquet")
    return folder


def _files(context: Context) -> Iterator[bytes]:
    """A sample of the training files, the same in every run."""
    rows = context.manifest.split(TRAIN).rows()
    chosen = sorted(rows, key=lambda row: seed_for("codec", row["image_id"]))[:CODEC_FILES]
    return (same_content(context.images, row) for row in sorted(chosen, key=lambda row: str(row["path"])))


def _threshold(train: RealImages, known: RealImages) -> float | None:
    """The score that one in a hundred real images reaches that are no copies of training images."""
    if not len(known):
        return None
    detector = train.take(sample(range(len(train)), DETECTOR_IMAGES))
    shown = known.take(sample(range(len(known)), THRESHOLD_IMAGES))
    found, _ = CopyDetector(detector.embeddings_ND, detector.thumbnails_N).score(
        shown.embeddings_ND, shown.thumbnails_N
    )
    return copy_threshold(found)


def sample(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them in their order, the same ones every time."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in sorted(random.Random(0).sample(range(len(items)), max(0, most)))]  # noqa: S311
