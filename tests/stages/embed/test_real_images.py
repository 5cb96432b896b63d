"""What later stages read of embed: the real images with a usable embedding, whatever their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairsynth.config import DataConfig, ImageRules, RunConfig
from fairsynth.data.decode import decode
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows, write_plans
from fairsynth.engine.session import Session
from fairsynth.groups import Group
from fairsynth.manifest import Manifest
from fairsynth.models.diffusion import load_pipeline
from fairsynth.models.memory import LIGHTER, Parts
from fairsynth.pipeline import STAGES
from fairsynth.stages.context import Context
from fairsynth.stages.embed.embedding import PREFIXES, DecodeUnit, plan_rows
from fairsynth.stages.embed.output import RealImages, real_images
from fairsynth.stages.stage import run_stage
from fairsynth.work import run_local
from tests.support.embedding import MODELS, SIZE, Encoder, embedder, root
from tests.support.ingesting import DEMO_MODELS

__all__ = ["root"]


def embedded(root: Path, out: Path) -> Context:
    """A context after ingest and embed, the latter in a plain loop, and with colours for CLIP's vectors."""
    config = RunConfig(out=str(out), data=DataConfig(root=str(root)), models=DEMO_MODELS)
    context = Context(config, out, Session(config.resources))
    run_stage(context, STAGES["ingest"])
    artifact = context.artifacts["embed"] = context.artifact("embed", 1, ("ingest",), {})
    parts = {prefix: plan_rows(context.ingested.split(split).table) for split, prefix in PREFIXES.items()}
    # Images that share a file do not come in the order of ids: nor do these.
    parts = {prefix: table.take(list(range(len(table)))[::-1]) for prefix, table in parts.items()}
    names = write_plans(artifact.open() / "plan.parquet", parts, 5)
    work = DecodeUnit(Storage(str(root)), PlanRows(artifact.path / "plan.parquet"), SIZE, ImageRules())
    encoder = embedder(Encoder(lambda found: found.__setitem__(0, np.nan) if len(found) == 5 else None))
    encoder.pipeline, encoder.encoded = load_pipeline(MODELS), Parts("the latents of an image", LIGHTER, 32)
    run_local(artifact.units(), names, lambda: encoder, work)
    return context


def of_split(context: Context, split: str) -> RealImages:
    """What later stages read of a split."""
    return real_images(context.artifacts["embed"], context.manifest, split)


def test_real_images_are_those_of_the_split_with_a_usable_embedding_in_the_order_of_ids(
    root: Path, tmp_path: Path
) -> None:
    context = embedded(root, tmp_path / "out")
    # 16 in units of 5, 5, 5, 1 and 8 in units of 5, 3; of every 5 the first is set aside.
    for split, count in (("train", 13), ("val", 7), ("test", 0)):
        found = of_split(context, split)
        assert len(found) == len(found.ids) == count
        assert found.ids == sorted(found.ids)
        assert found.embeddings_ND.shape == (count, 3) and found.thumbnails_N.shape == (count, 32, 32, 3)
        assert found.embeddings_ND.dtype == np.float32 and found.thumbnails_N.dtype == np.uint8
        known = {row["image_id"]: row for row in context.manifest.split(split).rows()}
        for i, image in enumerate(found.ids):
            pixels = decode((root / known[image]["path"]).read_bytes(), SIZE)
            assert found.groups[i] == Group(known[image]["label"], known[image]["attribute"])
            assert np.array_equal(found.thumbnails_N[i], pixels)
            assert found.embeddings_ND[i] == pytest.approx(Encoder().images(pixels[None])[0], abs=1e-6)


def test_some_of_the_real_images_keep_what_belongs_together(root: Path, tmp_path: Path) -> None:
    found = of_split(embedded(root, tmp_path / "out"), "train")
    some, none = found.take([4, 0, 9]), found.take([])
    for place, source in enumerate((4, 0, 9)):
        assert (some.ids[place], some.groups[place]) == (found.ids[source], found.groups[source])
        assert np.array_equal(some.embeddings_ND[place], found.embeddings_ND[source])
        assert np.array_equal(some.thumbnails_N[place], found.thumbnails_N[source])
    assert (len(some), len(none), none.embeddings_ND.shape) == (3, 0, (0, 3))


def test_an_image_without_a_group_is_left_out(root: Path, tmp_path: Path) -> None:
    context = embedded(root, tmp_path / "out")
    before = of_split(context, "train")
    gone = before.ids[3]
    table = context.ingested.table
    context.ingested = Manifest(table.filter(pa.array([i != gone for i in table["image_id"].to_pylist()])))
    assert of_split(context, "train").ids == [i for i in before.ids if i != gone]
