"""Embed: what is decoded is what ingest saw, what is no unit vector never passes, and units do not disturb each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from fairsynth.artifacts import Units
from fairsynth.config import ImageRules
from fairsynth.data.decode import decode
from fairsynth.data.shapes import buckets, nearest, parted
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows, write_plan
from fairsynth.data.vectors import matrix, vectors
from fairsynth.data.vectors import rows as rows_of
from fairsynth.errors import DataError, InfrastructureError
from fairsynth.models.diffusion import encode_posteriors
from fairsynth.stages.embed.embedding import PLAN, PREFIXES, DecodeUnit, EmbedUnit, plan_rows, unit_length
from fairsynth.stages.embed.output import with_embeddings
from fairsynth.work import run_local
from tests.support.datasets import crops, encoded
from tests.support.embedding import MODELS, SIZE, Encoder, embedder, root, rows

__all__ = ["root"]


def decoder(root: Path, out: Path, unit: int = 100, **rules: Any) -> tuple[DecodeUnit, list[str]]:
    """The decoding of a dataset, and the names of its units."""
    names = write_plan(out / "plan.parquet", plan_rows(pa.Table.from_pylist(rows(root), PLAN)), unit, "images")
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
    table = pa.Table.from_pylist(shared, PLAN)
    assert plan_rows(table).column("image_id").to_pylist() == ["2", "5", "9", "1"]
    assert plan_rows(table.take([3, 2, 1, 0])) == plan_rows(table)
    assert plan_rows(table.slice(0, 0)).num_rows == 0


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


@pytest.mark.parametrize("bad", BAD)
def test_an_embedding_that_is_no_unit_vector_is_set_aside_and_its_neighbours_stay(
    root: Path, tmp_path: Path, bad: str
) -> None:
    def spoil(found: NDArray[np.float32]) -> None:
        found[[0, 5]] = BAD[bad]

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
    made = embedder(encoder)(
        {"good": [], "bad": bad, "pixels": np.zeros((0, SIZE, SIZE, 3), np.uint8), "sizes": np.zeros((0, 2), int)}
    )
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
    train, held_out = (embed({"name": unit, **decoded})["embeddings"] for unit in (name, f"{PREFIXES['val']}-000000"))
    assert {"mean", "std", "latent_shape"} <= set(train.column_names)
    assert held_out.column_names == ["image_id", "embedding", "thumbnail"]
    assert held_out == train.select(held_out.column_names)


def of_several_sizes(root: Path, sizes: Sequence[tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Give the dataset's images these sizes (width, height) in turn; returns each one's by its path."""
    found = {}
    for number, path in enumerate(sorted(root.glob("*/*.png"))):
        size = sizes[number % len(sizes)]
        path.write_bytes(encoded(crops()[number].resize(size)))
        found[path.relative_to(root).as_posix()] = size
    return found


def test_images_with_shapes_of_their_own_differ_in_their_posteriors_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "meant").touch()
    sizes = of_several_sizes(root, [(64, 48), (40, 40), (48, 64), (64, 40)])
    squares, (name,) = decoder(root, tmp_path)
    shaped = DecodeUnit(squares.reader.storage, squares.rows, SIZE, ImageRules(), buckets(SIZE, 4))
    embed, decoded = EmbedUnit(MODELS, batch=3), shaped(name)
    plain, found = embed(squares(name))["embeddings"], embed(decoded)["embeddings"]
    same = ["image_id", "embedding", "thumbnail"]
    assert found.select(same) == plain.select(same)
    paths = [row["path"] for row in decoded["good"]]
    expected = [nearest(*sizes[path][::-1], shaped.shapes) for path in paths]
    assert list(zip(found["height"].to_pylist(), found["width"].to_pylist(), strict=True)) == expected
    assert found["latent_shape"].to_pylist() == [[4, shape.height // 4, shape.width // 4] for shape in expected]
    whole = parted(decoded["whole"], expected)
    for place, (mean, std) in enumerate(zip(rows_of(found, "mean"), rows_of(found, "std"), strict=True)):
        one_mean, one_std = encode_posteriors(embed.pipeline, whole[place][None])
        np.testing.assert_allclose(mean, one_mean.ravel(), atol=1e-4)
        np.testing.assert_allclose(std, one_std.ravel(), atol=1e-4)
        if expected[place] == (SIZE, SIZE):
            np.testing.assert_allclose(mean, matrix(plain, "mean")[place], atol=1e-4)
    held_out = embed({**decoded, "name": f"{PREFIXES['val']}-000000"})
    assert held_out["embeddings"].column_names == same
    # One that is set aside takes none of its neighbours with it.
    embed.encoder, embed.batch = Encoder(lambda vectors: vectors.__setitem__([0, 4], np.nan)), 32
    fewer = embed(decoded)["embeddings"]
    kept = [i for i in range(32) if i not in (0, 4)]
    assert fewer["latent_shape"] == found["latent_shape"].take(kept)
    assert all(
        len(one) == len(other)
        for one, other in zip(rows_of(fewer, "mean"), rows_of(found.take(kept), "mean"), strict=True)
    )


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
