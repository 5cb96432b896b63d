"""Stage embed: training and validation images through CLIP, training images through the autoencoder."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts
from fairsynth.classify.methods import need_synthetic
from fairsynth.data.unit_rows import PlanRows, write_plans
from fairsynth.errors import DataError
from fairsynth.manifest import TEST
from fairsynth.models.hub.shapes import shapes_of
from fairsynth.stages.context import Context
from fairsynth.stages.embed.embedding import PREFIXES, VERSION, DecodeUnit, EmbedUnit, plan_rows
from fairsynth.stages.stage import Made, check_prompts


def artifact(context: Context) -> Artifact:
    """Named by the images, their grouping into units, and the models."""
    config = context.config.embed.model_dump()
    return context.artifact("embed", VERSION, ("ingest",), config, **context.model_identity)


def make(context: Context, artifact: Artifact) -> Made:
    """CLIP vectors of training and validation images, VAE posteriors of the training images."""
    config, plan = context.config, artifact.path / "plan.parquet"
    if need_synthetic(config.tune.methods, config.classify):
        check_prompts(context)
    images = context.ingested.table
    wanted = images.filter(pc.and_(pc.not_equal(images["split"], TEST), pc.equal(images["duplicate_of"], "")))
    parts = {prefix: plan_rows(wanted.filter(pc.equal(wanted["split"], s))) for s, prefix in PREFIXES.items()}
    names = write_plans(plan, parts, config.embed.unit_size)
    size, shapes = config.models.image_size, shapes_of(config.models)
    decode = DecodeUnit(context.dataset.storage, PlanRows(plan), size, config.data.images, shapes)
    work = partial(EmbedUnit, config.models, batch=config.resources.embed_batch)
    ran = context.run_units(artifact, names, work, decode)
    units = artifact.units()
    units.here(names)
    bad = pa.concat_tables([pq.read_table(units[name] / "bad.parquet") for name in names])
    pq.write_table(bad, artifact.path / "quarantine.parquet")
    _check_bad(bad, len(wanted), config.data.max_bad_fraction)
    embedded, everything = len(wanted) - len(bad), len(context.ingested)
    counts = Counts(everything, embedded, len(bad), everything - len(wanted))
    return Made(counts, f"{embedded} training and validation images", ran)


def _check_bad(bad: pa.Table, images: int, most: float) -> None:
    """Raise DataError if more images could not be embedded than the config allows."""
    if len(bad) > most * images:
        reasons = ", ".join(f"{r} {n}" for r, n in Counter(bad.column("reason").to_pylist()).most_common())
        raise DataError(
            f"{len(bad)} of {images} images cannot be embedded ({reasons}), more than data.max_bad_fraction "
            f"{most:g} allows; bad_embedding speaks against models.clip or models.dtype (try --models.dtype float32)"
        )
