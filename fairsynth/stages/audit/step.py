"""Stage audit: the accepted images measured, beside real images that nothing learnt from. Changes no verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts, write_json
from fairsynth.data.samples import sample
from fairsynth.manifest import TRAIN, VALIDATION
from fairsynth.stages.audit.comparison import compare
from fairsynth.stages.audit.copy_audit import ReadImages, TestDetector, TestImages, search_copies
from fairsynth.stages.audit.figures import VERSION, warnings
from fairsynth.stages.audit.inputs import COLUMNS, Seen, embeddings_of, reference_images, sampled
from fairsynth.stages.audit.output import RESULT, privacy, read_audit
from fairsynth.stages.context import Context
from fairsynth.stages.embed.output import RealImages, real_images
from fairsynth.stages.finetune.output import planned_jobs, planned_shared
from fairsynth.stages.stage import Made
from fairsynth.stages.synthesize.output import ACCEPTED, TABLE, group_texts
from fairsynth.stages.synthesize.view import show_audit
from fairsynth.work import Ran, run_local

UNIT = "self-test"
# Training images that are planted, in every disguise; held-out images that must not be taken for copies.
PLANTED, HELD_OUT = 60, 400


def artifact(context: Context) -> Artifact:
    """Named by the images and the seed."""
    return context.artifact("audit", VERSION, ("synthesize", "embed", "ingest"), {"seed": context.config.seed})


def make(context: Context, artifact: Artifact) -> Made:
    """Agreement, fidelity, shortcuts and copies of the accepted images, per group and per cluster."""
    synthesized, embedded = context.artifacts["synthesize"], context.artifacts["embed"]
    table = pq.read_table(synthesized.path / TABLE, columns=COLUMNS)
    rows = sampled(table)
    seen = Seen.of(*(real_images(embedded, context.manifest, split) for split in (TRAIN, VALIDATION)))
    jobs = planned_jobs(context.config, context.artifacts["cluster"], context.manifest)
    shared = planned_shared(
        context.config, context.artifacts["cluster"], dict(zip(seen.train.ids, seen.train.groups, strict=True))
    )
    jobs += [shared] if shared else []
    reference = reference_images(seen, {image for job in jobs for image in job.image_ids})
    ran = _test_detector(context, artifact, seen, reference)
    tested = artifact.units()[UNIT]
    embeddings_ND = embeddings_of(synthesized, rows, seen.train.embeddings_ND.shape[1])
    texts = pq.read_table(tested / "texts.parquet")
    result = compare(rows, embeddings_ND, seen, jobs, texts, context.config.seed)
    test = json.loads(pq.read_table(tested / "test.parquet")["json"][0].as_py())
    copies = search_copies(synthesized, test, rows, embeddings_ND, reference, context.config.models.image_size)
    result["copies"] = copies | {"training_images": len(seen.train)}
    result["warnings"] = warnings(result)
    write_json(artifact.path / RESULT, result)
    looked_at = sum(row["verdict"] == ACCEPTED for row in rows)
    accepted = pc.sum(pc.equal(table["verdict"], ACCEPTED)).as_py() or 0
    outcome = f"planted copies found {test['detected']['share']:.0%}" if test["passed"] else "privacy not measured"
    counts = Counts(accepted, looked_at, 0, accepted - looked_at)
    summary = f"{looked_at} accepted images, {outcome}"
    return Made(counts, summary, ran, facts={"remarks": result["warnings"]})


def show(context: Context, artifact: Artifact, fresh: bool) -> None:
    """Write the audit's findings on copies of training images into the cards of the synthetic set."""
    show_audit(context, context.artifacts["synthesize"], privacy(read_audit(artifact)))


def _test_detector(context: Context, artifact: Artifact, seen: Seen, reference: RealImages) -> Ran:
    """One unit: the self-test of the detector of copies, and the prompts as CLIP sees them."""
    config = context.config
    images = TestImages(
        reference.embeddings_ND,
        reference.thumbnails_N,
        _reader(context, sample(reference.ids, PLANTED)),
        _reader(context, sample(seen.held_out.ids, HELD_OUT)),
    )
    make = partial(TestDetector, config.models, images, group_texts(config, context.groups), config.seed)
    if config.models.clip_is_tiny:  # starting a worker takes longer than the work
        return run_local(artifact.units(), [UNIT], make)
    return context.run_units(artifact, [UNIT], make)


def _reader(context: Context, ids: Sequence[str]) -> ReadImages:
    """Reads real images as the models see them, in the process that needs them."""
    config, images = context.config, context.ingested.table
    rows = images.filter(pc.is_in(images["image_id"], value_set=pa.array(ids, pa.string()))).to_pylist()
    places = sorted((str(row["path"]), str(row["location"])) for row in rows)
    return ReadImages(context.dataset.storage, places, config.models.image_size, config.data.images)
