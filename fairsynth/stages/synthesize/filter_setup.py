"""The filter's references, prepared before the first image is generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.config import RunConfig
from fairsynth.data.copies import THUMBNAIL_BYTES, CopyDetector, copy_threshold
from fairsynth.data.location import ImageReader, same_content
from fairsynth.data.samples import sample
from fairsynth.data.vectors import vectors
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, Manifest, seed_for
from fairsynth.models.probe import SEEN_FROM, Recognised
from fairsynth.models.schedule import Sampling
from fairsynth.stages.embed.output import RealImages, judged_probe
from fairsynth.stages.finetune.output import AdapterJob
from fairsynth.stages.synthesize.codec import Codec, source_codec
from fairsynth.stages.synthesize.generate import FilterReferences, GenerateUnit, centroids
from fairsynth.work import Work

# Files that decide the codec; training images in the detector; real images that calibrate its threshold.
CODEC_FILES, DETECTOR_IMAGES, THRESHOLD_IMAGES = 200, 4000, 1000


class FilterSetup(NamedTuple):
    """What images are compared with, and the codec of their files."""

    references: FilterReferences
    codec: Codec
    copy_threshold: float | None
    """The copy threshold; None without a held-out image to calibrate it."""
    probe_right: Mapping[str, float | None]
    """How often the probe is right on validation images that it has not seen."""
    recognised: Mapping[Group, Recognised]
    """Real images of each group that the probe recognises, among those that it has not learnt from when it is asked."""
    mistaken: Mapping[Group, float]
    """Share of another group's real images that the probe takes for this group's, where it can be told."""

    def maker(self, config: RunConfig, adapters: Path) -> Callable[[Path], Callable[[], Work]]:
        """Maps a plan's file to a builder of the work inside a worker; ``adapters``: the folder of their units."""
        how = config.synthesize
        sampling = Sampling(how.steps, how.scheduler, how.guidance_until, how.few_steps, how.few_steps_revision)
        make, used = partial(GenerateUnit, config.models, sampling), config.resources
        return lambda plan: partial(make, plan, adapters, self.references, self.codec, used.compile, used.cuda_graphs)


def set_up(
    train: RealImages,
    validation: RealImages,
    texts: Mapping[Group, str],
    training: Path,
    codec_files: Iterator[bytes],
) -> FilterSetup:
    """Fit the probe, find the codec, calibrate the copy threshold; the test split is not looked at.

    One half of the validation images teaches the probe and sets the threshold of copies, the other is held out.
    ``texts``: the prompt of every group; ``training``: see ``write_training``.
    """
    teaching, held_out = validation.halves()
    fitted = judged_probe(train, validation)
    probe = fitted.probe
    mistaken = {group: share for group in sorted(texts) if (share := fitted.mistaken(group)) is not None}
    right: dict[str, float | None] = {"label": None, "attribute": None}
    if len(held_out):
        agreements = probe.agreement(held_out.embeddings_ND, held_out.groups)
        right = {name: float((part >= SEEN_FROM).mean()) for name, part in zip(right, agreements, strict=True)}
    references = FilterReferences(texts, centroids(train.groups, train.embeddings_ND), probe, training)
    return FilterSetup(
        references, source_codec(codec_files), _threshold(train, teaching), right, fitted.recognised, mistaken
    )


def write_training(folder: Path, jobs: Sequence[AdapterJob], train: RealImages) -> Path:
    """Write for each adapter a file with ids, embeddings and thumbnails of what it learnt, or of a sample of that."""
    place = {image: i for i, image in enumerate(train.ids)}
    folder.mkdir(exist_ok=True)
    for job in jobs:
        learnt = train.take([place[image] for image in _sampled(job)])
        small = pa.array([thumbnail.tobytes() for thumbnail in learnt.thumbnails_N], pa.binary(THUMBNAIL_BYTES))
        columns: dict[str, Any] = {"image_id": pa.array(learnt.ids), "embedding": vectors(learnt.embeddings_ND)}
        pq.write_table(pa.table(columns | {"thumbnail": small}), folder / f"{job.name}.parquet")
    return folder


def _sampled(job: AdapterJob) -> list[str]:
    """Images to find copies of: of a shared adapter's as many of each group, because a small one is learnt by heart."""
    if job.kinds is None:
        return sample(job.image_ids, DETECTOR_IMAGES)
    kinds, left = sorted({*job.kinds.of_image}), DETECTOR_IMAGES
    of_kind = {kind: [i for i, k in zip(job.image_ids, job.kinds.of_image, strict=True) if k == kind] for kind in kinds}
    chosen = list[str]()
    for number, kind in enumerate(sorted(kinds, key=lambda kind: len(of_kind[kind]))):
        part = sample(of_kind[kind], left // (len(kinds) - number))
        chosen, left = chosen + part, left - len(part)
    return chosen


def codec_files(manifest: Manifest, images: ImageReader) -> Iterator[bytes]:
    """A sample of the training files, the same in every run."""
    rows = manifest.split(TRAIN).rows("image_id", "path", "location", "sha256")
    chosen = sorted(rows, key=lambda row: seed_for("codec", row["image_id"]))[:CODEC_FILES]
    return (same_content(images, row) for row in sorted(chosen, key=lambda row: str(row["path"])))


def _threshold(train: RealImages, known: RealImages) -> float | None:
    """The copy threshold, from the scores of real images that are no copies of training images."""
    if not len(known):
        return None
    detector = train.take(sample(range(len(train)), DETECTOR_IMAGES))
    queries = known.take(sample(range(len(known)), THRESHOLD_IMAGES))
    scores, _ = CopyDetector(detector.embeddings_ND, detector.thumbnails_N).score(
        queries.embeddings_ND, queries.thumbnails_N
    )
    return copy_threshold(scores)
