"""The images of a unit: made as planned, wherever and beside whatever they are made."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fairsynth.data.decode import decode
from fairsynth.models.image_maker import ImageMaker
from fairsynth.stages.synthesize.codec import source_codec
from fairsynth.stages.synthesize.generate import (
    SEEN,
    PlannedRows,
)
from fairsynth.stages.synthesize.image_plan import SCHEMA, plan_images
from tests.support.datasets import crops, encoded
from tests.support.synthesize.worlds import (
    MODELS,
    SAMPLING,
    SOURCES,
    A,
    B,
    C,
    World,
    encoder,
    largest,
    made,
    pixels_of,
    plan,
    real,
    units,
    world,
)

__all__ = ["made", "world"]


def test_a_row_is_its_row_of_the_plan_and_what_is_seen_of_it(world: World, made: pa.Table) -> None:
    planned = pq.read_table(world.plan)
    assert made.schema.names == [*SCHEMA.names, *SEEN.names, "file", "embedding"]
    assert made.select(SCHEMA.names) == planned and planned.num_rows == 19
    assert all(made.schema.field(f.name).type == f.type for f in (*SCHEMA, *SEEN))
    assert made.schema.field("embedding").type == pa.list_(pa.float32(), real()[2].shape[1])
    assert made.schema.field("file").type == pa.binary()
    # Nothing is left open but what the base model cannot have copied.
    assert {name for name in SEEN.names if made[name].null_count} == {"copy_score", "copy_of"}


def test_the_images_are_those_of_the_rows_made_one_by_one(world: World, made: pa.Table) -> None:
    maker = ImageMaker(MODELS, SAMPLING, world.adapters)
    alone = np.concatenate([maker([row]) for row in pq.read_table(world.plan).to_pylist()])
    assert abs(pixels_of(made).astype(int) - alone).max() <= 1
    assert len({image.tobytes() for image in pixels_of(made)}) == 19


@pytest.mark.slow
def test_another_actor_gives_the_same_unit_and_other_units_the_same_images(
    world: World, made: pa.Table, tmp_path: Path
) -> None:
    again = pa.concat_tables([world.worker()({"name": name})["images"] for name in reversed(units(world.plan))])
    small = plan(tmp_path, 4)
    work = world.worker(path=small)
    others = pa.concat_tables([work({"name": name})["images"] for name in units(small)])
    assert len(units(small)) > len(units(world.plan)) > 2
    shared = made.filter(pa.compute.equal(made["unit"], "r0-stack-00000"))
    assert set(shared["adapter"].to_pylist()) == {"a", "b", "c"}, "no unit of several adapters: nothing is stacked"
    first = dict(zip(made["image_id"].to_pylist(), pixels_of(made).astype(int), strict=True))
    assert len(first) == 19
    for table in (again, others):
        found = dict(zip(table["image_id"].to_pylist(), pixels_of(table), strict=True))
        assert found.keys() == first.keys()
        assert max(abs(found[name] - first[name]).max() for name in first) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "options"), [("PNG", {}), ("JPEG", {"quality": 70, "subsampling": 1}), ("WEBP", {"quality": 60})]
)
def test_files_are_written_as_the_source_is_and_say_that_they_are_synthetic(
    world: World, made: pa.Table, format: str, options: dict[str, Any]
) -> None:
    source = encoded(crops()[0].resize((48, 48)), format, **options)
    work, name = world.worker(source_codec([source])), largest(world.plan)
    found = work({"name": name})["images"]
    plain = dict(zip(made["image_id"].to_pylist(), made["embedding"].to_pylist(), strict=True))
    for row in found.to_pylist():
        image = Image.open(io.BytesIO(row["file"]))
        assert (image.format, image.size, image.mode) == (format, (48, 48), "RGB")
        assert "digitalsourcetype/trainedAlgorithmicMedia" in str(
            image.info.get("XML:com.adobe.xmp") or image.info["xmp"]
        )
        if format == "JPEG":
            assert image.quantization == Image.open(io.BytesIO(source)).quantization  # type: ignore[attr-defined]
        # The filter sees the file, at the models' size.
        expected = encoder().images(decode(row["file"], 32)[None])[0]
        assert row["embedding"] == pytest.approx(expected, abs=1e-5)
        assert row["sha256"] == hashlib.sha256(row["file"]).hexdigest()
        if format != "PNG":
            assert np.abs(np.subtract(row["embedding"], plain[row["image_id"]])).max() > 1e-3


def test_a_unit_has_its_rows_and_no_others(world: World, tmp_path: Path) -> None:
    path = plan(tmp_path, 4)
    table, rows = pq.read_table(path), PlannedRows(path)
    names = units(path)
    assert [len(table.filter(pa.compute.equal(table["unit"], name))) for name in names] == [
        rows(name).num_rows for name in names
    ]
    for name in reversed(names):
        found = rows(name)
        assert found.schema == SCHEMA
        assert found.to_pylist() == [row for row in table.to_pylist() if row["unit"] == name]
    for unknown in ("", "r1" + names[0][2:], names[0][:-1]):
        with pytest.raises(KeyError):
            rows(unknown)


def test_a_plan_of_many_row_groups_is_read_as_one(tmp_path: Path) -> None:
    few, many = tmp_path / "few.parquet", tmp_path / "many.parquet"
    table = plan_images({A: 3000, B: 2000, C: 17}, SOURCES, 1, 0, 64)
    pq.write_table(table, few)
    pq.write_table(table, many, row_group_size=7)
    rows = [PlannedRows(path) for path in (few, many)]
    names = table["unit"].unique().to_pylist()
    assert pa.concat_tables([rows[0](name) for name in names]).equals(table)
    for name in names[::9]:
        assert rows[1](name).equals(rows[0](name))
