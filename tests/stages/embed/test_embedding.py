"""Embed: what is decoded is what ingest saw, what is no unit vector never passes, and units do not disturb each other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from fairsynth.artifacts import Units
from fairsynth.config import DataConfig, ImageRules, ModelsConfig, RunConfig
from fairsynth.data.copies import THUMBNAIL_BYTES, unpacked
from fairsynth.data.decode import decode
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows, write_plan, write_plans
from fairsynth.data.vectors import matrix, vectors
from fairsynth.engine.session import Session
from fairsynth.engine.units import run_local
from fairsynth.errors import DataError, InfrastructureError
from fairsynth.groups import Group
from fairsynth.manifest import Manifest, image_id
from fairsynth.models.diffusion import load_pipeline
from fairsynth.stages.context import Context
from fairsynth.stages.embed.embedding import HELD_OUT, DecodeUnit, EmbedUnit, plan_rows, unit_length, with_embeddings
from fairsynth.stages.embed.output import real_images
from fairsynth.stages.ingest.step import ingest
from tests.support.datasets import crops, encoded, tiny_folder_dataset, tree
from tests.support.ingesting import DEMO_MODELS

SIZE = 32
MODELS = ModelsConfig(**DEMO_MODELS)


class Encoder:
    """Stands in for CLIP: the mean colour as a direction, then whatever ``spoil`` makes of the vectors."""

    def __init__(self, spoil: Callable[[NDArray[np.float32]], None] = lambda vectors: None) -> None:
        self.spoil, self.calls = spoil, 0

    def images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (N, 3)."""
        self.calls += 1
        colours = pixels.reshape(len(pixels), -1, 3).mean(1) + 1
        found = (colours / np.linalg.norm(colours, axis=1, keepdims=True)).astype(np.float32)
        self.spoil(found)
        return found


def embedder(encoder: Encoder) -> EmbedUnit:
    """The work with another encoder, and without posteriors."""
    work = EmbedUnit.__new__(EmbedUnit)
    work.encoder, work.pipeline, work.batch = encoder, None, 32
    return work


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A small dataset; it must be the same after the test unless the test itself changed it."""
    folder = tiny_folder_dataset(tmp_path / "data", photos=True)
    before = tree(folder)
    yield folder
    if not (tmp_path / "meant").exists():
        assert tree(folder) == before


def rows(root: Path) -> list[dict[str, str]]:
    """Rows of the manifest, as ingest would write them."""
    found = []
    for path in sorted(root.glob("*/*.png")):
        name = path.relative_to(root).as_posix()
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append({"image_id": image_id(name), "path": name, "location": "", "sha256": sha, "label": "cat"})
    return found


def decoder(root: Path, out: Path, unit: int = 100, **rules: Any) -> tuple[DecodeUnit, list[str]]:
    """The decoding of a dataset, and the names of its units."""
    names = write_plan(out / "plan.parquet", plan_rows(rows(root)), unit, "images")
    return DecodeUnit(Storage(str(root)), PlanRows(out / "plan.parquet"), SIZE, ImageRules(**rules)), names


def test_units_are_decoded_in_the_order_of_ids(root: Path, tmp_path: Path) -> None:
    work, names = decoder(root, tmp_path, 10)
    assert len(names) == 4
    found = [work(name) for name in names]
    good = [row for part in found for row in part["good"]]
    assert [row["image_id"] for row in good] == sorted(row["image_id"] for row in rows(root))
    pixels = np.concatenate([part["pixels"] for part in found])
    assert pixels.shape == (32, SIZE, SIZE, 3) and pixels.dtype == np.uint8
    for row, image in zip(good, pixels, strict=True):
        assert np.array_equal(image, decode((root / row["path"]).read_bytes(), SIZE))
    assert all(part["bad"] == [] for part in found)


def test_images_that_share_a_file_are_read_in_its_order() -> None:
    shared = [{"image_id": i, "path": p, "location": at, "sha256": "0"} for i, p, at in [
        ("9", "a#0", "tar:0:5:a"), ("1", "a#1", "tar:512:5:a"), ("5", "x", ""), ("2", "y", "")]]  # fmt: skip
    assert plan_rows(shared).column("image_id").to_pylist() == ["2", "5", "9", "1"]
    assert plan_rows(shared[::-1]) == plan_rows(shared)
    assert plan_rows([]).num_rows == 0


@pytest.mark.parametrize("change", ["another image", "one byte more", "gone", "empty"])
def test_a_file_that_is_not_what_ingest_saw_stops_the_run(root: Path, tmp_path: Path, change: str) -> None:
    (tmp_path / "meant").touch()
    work, (name,) = decoder(root, tmp_path)
    path = root / "train" / "0003.png"
    if change == "gone":
        path.unlink()
    else:
        other = {"another image": encoded(crops()[300]), "one byte more": path.read_bytes() + b"\0", "empty": b""}
        path.write_bytes(other[change])
    with pytest.raises(DataError, match=r"^input_changed: 'train/0003\.png' is not what it was when the run began \("):
        work(name)


def test_a_file_that_cannot_be_read_now_is_worth_another_try(root: Path, tmp_path: Path) -> None:
    (tmp_path / "meant").touch()
    work, (name,) = decoder(root, tmp_path)
    (root / "train" / "0003.png").unlink()
    (root / "train" / "0003.png").mkdir()
    with pytest.raises(InfrastructureError, match=r"^cannot read 'train/0003\.png': .*the same command goes on$"):
        work(name)


def test_a_new_time_alone_is_no_change(root: Path, tmp_path: Path) -> None:
    (tmp_path / "meant").touch()
    work, (name,) = decoder(root, tmp_path)
    os.utime(root / "train" / "0003.png", (1, 1))
    assert len(work(name)["good"]) == 32


def test_an_image_that_the_rules_refuse_is_set_aside_with_its_reason(root: Path, tmp_path: Path) -> None:
    (tmp_path / "meant").touch()
    (root / "train" / "0000.png").write_bytes(encoded(crops()[0].resize((20, 20))))
    work, (name,) = decoder(root, tmp_path, min_side=30)
    found = work(name)
    (bad,) = found["bad"]
    assert (bad["path"], bad["stage"], bad["reason"]) == ("train/0000.png", "embed", "too_small")
    assert len(found["good"]) == len(found["pixels"]) == 31


BAD = {
    "nan": [np.nan, 1, 0],
    "one nan": [0.6, np.nan, 0.8],
    "infinite": [np.inf, 0, 0],
    "minus infinite": [0, -np.inf, 1],
    "zero": [0, 0, 0],
    "short": [0.5, 0, 0],
    "long": [3e38, 3e38, 3e38],
}


def test_only_unit_vectors_are_usable() -> None:
    assert not unit_length(np.array(list(BAD.values()), np.float32)).any()
    good = np.array([[1, 0, 0], [0, -1, 0], [0.6, 0, 0.8], [0.5774, 0.5773, 0.5774]], np.float32)
    assert unit_length(good).all()
    assert unit_length(np.zeros((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize("kind", BAD)
def test_an_embedding_that_is_no_unit_vector_is_set_aside_and_its_neighbours_stay(
    root: Path, tmp_path: Path, kind: str
) -> None:
    def spoil(found: NDArray[np.float32]) -> None:
        found[[0, 5]] = BAD[kind]

    work, (name,) = decoder(root, tmp_path)
    decoded = work(name)
    clean, spoilt = embedder(Encoder())(decoded), embedder(Encoder(spoil))(decoded)
    gone = [decoded["good"][i] for i in (0, 5)]
    assert spoilt["bad"].to_pylist() == [
        {"path": row["path"], "stage": "embed", "reason": "bad_embedding", "detail": "no unit vector"} for row in gone
    ]
    kept = [i for i in range(32) if i not in (0, 5)]
    assert spoilt["embeddings"] == clean["embeddings"].take(kept) and clean["bad"].num_rows == 0


def test_a_unit_without_a_single_usable_image_does_not_disturb_the_others(root: Path, tmp_path: Path) -> None:
    def spoil(found: NDArray[np.float32]) -> None:
        if encoder.calls in (1, 3):
            found[:] = np.nan

    encoder, units = Encoder(spoil), Units(tmp_path / "units")
    work, names = decoder(root, tmp_path, 8)
    run_local(units, names, lambda: embedder(encoder), work)
    files = [units[name] / "embeddings.parquet" for name in names]
    table = pq.read_table(with_embeddings(files), columns=["image_id", "embedding"])
    assert matrix(table, "embedding").shape == (16, 3)
    bad = pa.concat_tables([pq.read_table(units[name] / "bad.parquet") for name in names])
    assert bad.num_rows == 16 and set(bad.column("reason").to_pylist()) == {"bad_embedding"}
    with pytest.raises(DataError, match="no image has a usable embedding"):
        with_embeddings([files[0], files[2]])


def test_the_model_is_not_asked_for_nothing() -> None:
    encoder, bad = Encoder(), [{"path": "a", "stage": "embed", "reason": "too_small", "detail": ""}]
    made = embedder(encoder)({"good": [], "bad": bad, "pixels": np.zeros((0, SIZE, SIZE, 3), np.uint8)})
    assert encoder.calls == 0 and made["embeddings"].num_rows == 0 and made["bad"].to_pylist() == bad


def test_the_demos_models_give_unit_vectors_and_posteriors(root: Path, tmp_path: Path) -> None:
    work, (name,) = decoder(root, tmp_path)
    embed = EmbedUnit(MODELS)
    full = embed(work(name))["embeddings"]
    assert full.column_names == ["image_id", "embedding", "thumbnail", "mean", "std", "latent_shape"]
    assert full.schema.field("thumbnail").type == pa.binary(32 * 32 * 3)
    assert unit_length(matrix(full, "embedding")).all() and (matrix(full, "std") > 0).all()
    (shape,) = {tuple(shape) for shape in full.column("latent_shape").to_pylist()}
    assert matrix(full, "mean").shape == (32, int(np.prod(shape)))
    alone = EmbedUnit(MODELS, posteriors=False)(work(name))["embeddings"]
    embed.encoder = Encoder(lambda found: found.__setitem__([0, 4], np.nan))
    fewer = embed(work(name))["embeddings"]
    kept = full.take([i for i in range(32) if i not in (0, 4)])
    assert fewer.column("image_id") == kept.column("image_id")
    assert np.abs(matrix(fewer, "mean") - matrix(kept, "mean")).max() < 1e-4  # each posterior is of its own image
    assert alone == full.select(["image_id", "embedding", "thumbnail"])


def test_units_of_validation_images_have_no_posteriors(root: Path, tmp_path: Path) -> None:
    work, (name,) = decoder(root, tmp_path)
    embed, decoded = EmbedUnit(MODELS), work(name)
    train, held_out = (embed({"name": unit, **decoded})["embeddings"] for unit in (name, f"{HELD_OUT}-000000"))
    assert {"mean", "std", "latent_shape"} <= set(train.column_names)
    assert held_out.column_names == ["image_id", "embedding", "thumbnail"]
    assert held_out == train.select(held_out.column_names)


@pytest.mark.parametrize("size", [32, 64])
def test_thumbnails_are_means_of_boxes_of_each_rows_own_image(root: Path, tmp_path: Path, size: int) -> None:
    def spoil(found: NDArray[np.float32]) -> None:
        found[[0, 7]] = np.nan

    write_plan(tmp_path / "plan.parquet", plan_rows(rows(root)), 100, "images")
    work = DecodeUnit(Storage(str(root)), PlanRows(tmp_path / "plan.parquet"), size, ImageRules())
    made = embedder(Encoder(spoil))(work("images-000000"))["embeddings"].to_pylist()
    paths = {row["image_id"]: root / row["path"] for row in rows(root)}
    assert len(made) == 30
    for row in made:
        found = np.frombuffer(row["thumbnail"], np.uint8).reshape(32, 32, 3)
        image = decode(paths[row["image_id"]].read_bytes(), size).astype(float)
        side = size // 32
        means = image.reshape(32, side, 32, side, 3).mean((1, 3))
        # Pillow rounds once along each side.
        assert np.abs(found - means).max() <= (1 if size > 32 else 0)


def looks(*chunks: NDArray[np.uint8]) -> pa.ChunkedArray:
    """A column of thumbnails as embed stores them, in these chunks."""
    kind = pa.binary(THUMBNAIL_BYTES)
    return pa.chunked_array([pa.array([image.tobytes() for image in chunk], kind) for chunk in chunks], kind)


PIXELS = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)


def test_thumbnails_are_read_back_from_whole_columns_and_from_parts_of_them(tmp_path: Path) -> None:
    one, many = looks(PIXELS), looks(PIXELS[:2], PIXELS[:0], PIXELS[2:3], PIXELS[3:])
    assert many.num_chunks == 4
    for column in (one, many):
        found = unpacked(column)
        assert found.dtype == np.uint8 and np.array_equal(found, PIXELS)
        for start, length in ((0, 4), (1, 1), (1, 7), (2, 7), (8, 1), (5, 99)):
            assert np.array_equal(unpacked(column.slice(start, length)), PIXELS[start : start + length])
        assert np.array_equal(unpacked(column.slice(2).slice(3, 2)), PIXELS[5:7])
    part = pa.chunked_array([one.chunk(0).slice(1, 2), one.chunk(0).slice(6, 3)])
    assert np.array_equal(unpacked(part), PIXELS[[1, 2, 6, 7, 8]])
    pq.write_table(pa.table({"thumbnail": many}), tmp_path / "t.parquet", row_group_size=4)
    assert np.array_equal(unpacked(pq.read_table(tmp_path / "t.parquet")["thumbnail"]), PIXELS)


@pytest.mark.parametrize("column", [looks(), looks(PIXELS[:0]), looks(PIXELS[:0], PIXELS[:0]), looks(PIXELS).slice(9)])
def test_no_thumbnails_are_read_back_as_none(column: pa.ChunkedArray) -> None:
    found = unpacked(column)
    assert found.shape == (0, 32, 32, 3) and found.dtype == np.uint8


def test_thumbnails_that_lie_in_one_piece_are_not_copied() -> None:
    column = looks(PIXELS)
    start = column.chunk(0).buffers()[1].address
    assert unpacked(column).ctypes.data == start
    assert unpacked(column.slice(4)).ctypes.data == start + 4 * 3072


def embedded(root: Path, out: Path) -> Context:
    """A context after ingest and embed, the latter in a plain loop, and with colours for CLIP's vectors."""
    config = RunConfig(out=str(out), data=DataConfig(root=str(root)), models=DEMO_MODELS)
    context = Context(config, out, Session(config.resources))
    context.artifacts["ingest"] = ingest(context).artifact
    artifact = context.artifacts["embed"] = context.artifact("embed", 1, ("ingest",), {})
    wanted = [row for row in context.ingested.rows() if row["split"] != "test"]
    parts = {
        prefix: plan_rows(row for row in wanted if row["split"] == split)
        for prefix, split in (("images", "train"), (HELD_OUT, "val"))
    }
    # Images that share a file do not come in the order of ids: nor do these.
    parts = {prefix: table.take(list(range(len(table)))[::-1]) for prefix, table in parts.items()}
    names = write_plans(artifact.open() / "plan.parquet", parts, 5)
    work = DecodeUnit(Storage(str(root)), PlanRows(artifact.path / "plan.parquet"), SIZE, ImageRules())
    encoder = embedder(Encoder(lambda found: found.__setitem__(0, np.nan) if len(found) == 5 else None))
    encoder.pipeline = load_pipeline(MODELS)
    run_local(artifact.units(), names, lambda: encoder, work)
    return context


def test_real_images_are_those_of_the_split_with_a_usable_embedding_in_the_order_of_ids(
    root: Path, tmp_path: Path
) -> None:
    context = embedded(root, tmp_path / "out")
    # 16 in units of 5, 5, 5, 1 and 8 in units of 5, 3; of every 5 the first is set aside.
    for split, count in (("train", 13), ("val", 7), ("test", 0)):
        found = real_images(context, split)
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
    found = real_images(embedded(root, tmp_path / "out"), "train")
    some, none = found.take([4, 0, 9]), found.take([])
    for place, source in enumerate((4, 0, 9)):
        assert (some.ids[place], some.groups[place]) == (found.ids[source], found.groups[source])
        assert np.array_equal(some.embeddings_ND[place], found.embeddings_ND[source])
        assert np.array_equal(some.thumbnails_N[place], found.thumbnails_N[source])
    assert (len(some), len(none), none.embeddings_ND.shape) == (3, 0, (0, 3))


def test_an_image_without_a_group_is_left_out(root: Path, tmp_path: Path) -> None:
    context = embedded(root, tmp_path / "out")
    before = real_images(context, "train")
    gone = before.ids[3]
    table = context.ingested.table
    context.ingested = Manifest(table.filter(pa.array([i != gone for i in table["image_id"].to_pylist()])))
    assert real_images(context, "train").ids == [i for i in before.ids if i != gone]


def test_a_plain_loop_over_units_gives_the_same_embeddings(root: Path, tmp_path: Path) -> None:
    made = {}
    for unit in (32, 7):
        out = tmp_path / str(unit)
        out.mkdir()
        work, names = decoder(root, out, unit)
        units = Units(out / "units")
        run_local(units, names, lambda: EmbedUnit(MODELS, posteriors=False), work)
        made[unit] = pa.concat_tables([pq.read_table(units[name] / "embeddings.parquet") for name in names])
    assert made[7].column("image_id") == made[32].column("image_id")
    assert np.abs(matrix(made[7], "embedding") - matrix(made[32], "embedding")).max() < 1e-5


def test_vectors_and_matrices_are_each_others_inverse() -> None:
    values = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    table = pa.concat_tables([pa.table({"v": vectors(values[:3])}), pa.table({"v": vectors(values[3:])})])
    assert np.array_equal(matrix(table, "v"), values)
    assert np.array_equal(matrix(table.slice(2, 3), "v"), values[2:5])
