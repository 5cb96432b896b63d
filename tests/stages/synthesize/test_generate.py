"""The images of a unit: made as planned, wherever and beside whatever they are made, and judged as computed by hand."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairsynth.config import ModelsConfig
from fairsynth.data.copies import THUMBNAIL_BYTES, CopyDetector, thumbnails
from fairsynth.data.decode import decode
from fairsynth.data.near_duplicates import perceptual_hash, thumbnail
from fairsynth.data.vectors import matrix, vectors
from fairsynth.demo import dataset
from fairsynth.groups import Group
from fairsynth.models.encoder import ClipEncoder
from fairsynth.models.image_maker import ImageMaker
from fairsynth.models.probe import fit_probe
from fairsynth.models.schedule import Sampling
from fairsynth.stages.audit.memorisation import plant
from fairsynth.stages.synthesize.codec import Codec, source_codec
from fairsynth.stages.synthesize.generate import (
    SEEN,
    GenerateUnit,
    Judgement,
    PlannedRows,
    centroids,
    groups_of,
    shows_nothing,
)
from fairsynth.stages.synthesize.image_plan import SCHEMA, Source, plan_images
from tests.models.test_image_maker import write_adapters
from tests.support.datasets import crops, encoded

MODELS, SAMPLING = ModelsConfig(diffusion="demo", clip="demo", image_size=32), Sampling(4)
A, B, C = Group("low", "building"), Group("high", "flower"), Group("low", "flower")
SOURCES = {
    A: [
        Source("own", "a", 0, "a photo of a sks low number on a building", 3, "blur", 2.0),
        Source("own", "b", 1, "a photo of a ohwx low number on a building", 1, "", 3.0),
    ],
    B: [Source("same-attribute", "c", 0, "a photo of a high number on a flower", 1, "low", 2.0)],
    C: [
        Source("composed", "a", 0, "a photo of a low number on a flower", 3, "", 2.0, 0.5, "b"),
        Source("prompt", None, 0, "a photo of a low number on a flower", 2, "", 2.0),
    ],
}
NEEDED = {A: 11, B: 3, C: 5}
TEXTS = {group: f"a photo of a {group.label} number on a {group.attribute}" for group in SOURCES}
PNG = Codec("PNG", "RGB", 32)


@cache
def encoder() -> ClipEncoder:
    return ClipEncoder(MODELS)


@cache
def real() -> tuple[list[Group], NDArray[np.uint8], NDArray[np.float32]]:
    """Some of the demo's training images: groups, pixels, embeddings."""
    images = [image for image in dataset.build(severity=0.9) if image.split == "train"][::6]
    pixels = np.stack([image.pixels for image in images])
    return [Group(image.label, image.attribute) for image in images], pixels, encoder().images(pixels)


def plan(folder: Path, unit_size: int) -> Path:
    """The plan's file, for units of this size."""
    path = folder / f"plan-{unit_size}.parquet"
    pq.write_table(plan_images(NEEDED, SOURCES, 0, 0, unit_size), path, row_group_size=5)
    return path


def units(path: Path) -> list[str]:
    """The units' names in order."""
    return list(dict.fromkeys(pq.read_table(path)["unit"].to_pylist()))


def largest(path: Path) -> str:
    """The unit with the most rows."""
    names = pq.read_table(path)["unit"].to_pylist()
    return max(names, key=names.count)


@dataclass
class World:
    """Adapters, what they learnt, and what images are judged by."""

    adapters: Path
    plan: Path
    judgement: Judgement

    def worker(self, codec: Codec = PNG, path: Path | None = None) -> GenerateUnit:
        """An actor's work."""
        return GenerateUnit(MODELS, SAMPLING, path or self.plan, self.adapters, self.judgement, codec)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Each adapter has learnt a third of the real images; group C has no centroid."""
    folder = tmp_path_factory.mktemp("world")
    adapters = write_adapters(folder / "adapters", ("a", "b", "c"))
    groups, pixels, embeddings = real()
    for i, name in enumerate("abc"):
        learnt(folder, name, pixels[i::3], [f"{name}-{k}" for k in range(len(pixels[i::3]))])
    centres = {group: centre for group, centre in centroids(groups, embeddings).items() if group != C}
    probe = fit_probe(embeddings, groups, [str(i) for i in range(len(groups))])
    return World(adapters, plan(folder, 100), Judgement(TEXTS, centres, probe, folder))


def learnt(folder: Path, adapter: str, pixels: NDArray[np.uint8], ids: list[str]) -> None:
    """The file of what an adapter learnt."""
    small = pa.array([image.tobytes() for image in thumbnails(pixels)], pa.binary(THUMBNAIL_BYTES))
    table = pa.table({"image_id": ids, "embedding": vectors(encoder().images(pixels)), "thumbnail": small})
    pq.write_table(table, folder / f"{adapter}.parquet")


@pytest.fixture(scope="module")
def made(world: World) -> pa.Table:
    """All images of the plan."""
    work = world.worker()
    return pa.concat_tables([work({"name": name})["images"] for name in units(world.plan)])


def pixels_of(table: pa.Table) -> NDArray[Any]:
    """The files' pixels, in the rows' order."""
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in table["file"].to_pylist()])


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


def test_scores_are_clips_cosines_by_hand(world: World, made: pa.Table) -> None:
    embeddings = encoder().images(pixels_of(made))
    assert matrix(made, "embedding") == pytest.approx(embeddings, abs=1e-5)
    texts = {group: encoder().texts([text])[0].astype(np.float64) for group, text in TEXTS.items()}
    groups, real_embeddings = np.array([str(g) for g in real()[0]]), real()[2]
    fallback = 0
    for row, vector in zip(made.to_pylist(), embeddings.astype(np.float64), strict=True):
        group = Group(row["label"], row["attribute"])
        cosines = {other: float(text @ vector) for other, text in texts.items()}
        assert row["text_score"] == pytest.approx(cosines[group], abs=1e-5)
        centre = real_embeddings[groups == str(group)].mean(0)
        expected = float(centre @ vector / np.linalg.norm(centre))
        if group == C:
            expected, fallback = cosines[group], fallback + 1
        assert row["centroid_score"] == pytest.approx(expected, abs=1e-5)
        nearest = max(cosines, key=lambda other: cosines[other])
        assert (row["zero_shot_label"], row["zero_shot_attribute"]) == tuple(nearest)
    assert fallback == 5
    assert len(set(zip(made["zero_shot_label"].to_pylist(), made["zero_shot_attribute"].to_pylist(), strict=True))) > 1


def test_the_probes_word_is_the_logistic_function_by_hand(world: World, made: pa.Table) -> None:
    probe, embeddings = world.judgement.probe, encoder().images(pixels_of(made)).astype(np.float64)
    assert (probe.labels, probe.attributes) == (("high", "low"), ("building", "flower"))
    for kind, weights, second in (
        ("label", probe.label_weights_CD, "low"),
        ("attribute", probe.attribute_weights_CD, "flower"),
    ):
        slope = (weights[1] - weights[0]).astype(np.float64)
        chances = 1 / (1 + np.exp(-(embeddings @ slope[:-1] + slope[-1])))
        own = [p if name == second else 1 - p for p, name in zip(chances, made[kind].to_pylist(), strict=True)]
        assert made[f"{kind}_probability"].to_numpy() == pytest.approx(own, abs=1e-4)
        assert np.ptp(own) > 0.1


def test_looks_and_hashes_are_those_of_the_image(made: pa.Table) -> None:
    for row, pixels in zip(made.to_pylist(), pixels_of(made), strict=True):
        image = Image.fromarray(pixels)
        assert (row["phash"], row["look"]) == (perceptual_hash(image), thumbnail(image))
        assert row["sha256"] == hashlib.sha256(row["file"]).hexdigest()
        assert row["constant"] is False


def test_an_image_that_shows_nothing_is_said_to(world: World) -> None:
    work, name = world.worker(), largest(world.plan)
    plain_make = work.make

    class Make:
        """Two of the images show nothing."""

        size = plain_make.size

        def __call__(self, rows: list[Mapping[str, Any]]) -> NDArray[np.uint8]:
            """Pixels of all rows."""
            found = plain_make(rows)
            found[1] = 0
            found[2] = (200, 10, 90)
            return found

    work.make = Make()  # type: ignore[assignment]
    found = work({"name": name})["images"]
    assert found["constant"].to_pylist() == [False, True, True] + [False] * (found.num_rows - 3)
    assert np.isfinite(found["centroid_score"].to_numpy()).all()


def test_a_copy_of_what_an_adapter_learnt_is_found_with_its_source(
    world: World, made: pa.Table, tmp_path: Path
) -> None:
    pixels, adapters = pixels_of(made), made["adapter"].to_pylist()
    seconds = made["second_adapter"].to_pylist()
    of_a, of_c = adapters.index("a"), adapters.index("c")
    composed = seconds.index("b")
    planted = {
        "a": [plant(pixels[of_a], "flipped", 0), plant(pixels[of_c], "plain", 0)],
        "b": [plant(pixels[composed], "re-encoded", 0), plant(pixels[adapters.index(None)], "plain", 0)],
        "c": [plant(pixels[of_c], "cropped", 0)],
    }
    for i, (name, copies) in enumerate(planted.items()):
        others = real()[1][i::3]
        ids = [f"{name}-{k}" for k in range(len(others))]
        learnt(tmp_path, name, np.concatenate([others, copies]), ids + [f"copy-{name}-{k}" for k in range(len(copies))])
    judgement = Judgement(TEXTS, world.judgement.centroids, world.judgement.probe, tmp_path)
    work = World(world.adapters, world.plan, judgement).worker()
    found = pa.concat_tables([work({"name": name})["images"] for name in units(world.plan)])
    scores, sources = found["copy_score"].to_pylist(), found["copy_of"].to_pylist()
    before = made["copy_score"].to_pylist()
    # The copies that another adapter learnt do not count: of_c's lies with a, too, and the base model's with b.
    for place, source in ((of_a, "copy-a-0"), (of_c, "copy-c-0"), (composed, "copy-b-0")):
        assert (sources[place], scores[place] > 0.9, before[place] < 0.85) == (source, True, True)
    for place, name in enumerate(adapters):
        if name is None:
            assert (scores[place], sources[place]) == (None, None)
    assert scores[of_c] < 0.9999


def test_copy_scores_are_the_detectors(world: World, made: pa.Table) -> None:
    pixels, embeddings = pixels_of(made), encoder().images(pixels_of(made))
    detectors = {n: CopyDetector(real()[2][i::3], thumbnails(real()[1][i::3])) for i, n in enumerate("abc")}
    checked = set()
    for place, row in enumerate(made.to_pylist()):
        names = [name for name in (row["adapter"], row["second_adapter"]) if name]
        found = []
        for name in names:
            score, at = detectors[name].score(embeddings[place : place + 1], thumbnails(pixels[place : place + 1]))
            found.append((float(score[0]), f"{name}-{at[0]}"))
        if found:
            score, source = max(found)
            assert (row["copy_score"], row["copy_of"]) == (pytest.approx(score, abs=1e-4), source)
        checked.add(tuple(names))
    assert checked == {("a",), ("b",), ("c",), ("a", "b"), ()}


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 70, "subsampling": 1}), ("WEBP", {"quality": 60})]
)
def test_files_are_written_as_the_source_is_and_say_that_they_are_synthetic(
    world: World, made: pa.Table, kind: str, options: dict[str, Any]
) -> None:
    source = encoded(crops()[0].resize((48, 48)), kind, **options)
    work, name = world.worker(source_codec([source])), largest(world.plan)
    found = work({"name": name})["images"]
    plain = dict(zip(made["image_id"].to_pylist(), made["embedding"].to_pylist(), strict=True))
    for row in found.to_pylist():
        image = Image.open(io.BytesIO(row["file"]))
        assert (image.format, image.size, image.mode) == (kind, (48, 48), "RGB")
        assert "digitalsourcetype/trainedAlgorithmicMedia" in str(
            image.info.get("XML:com.adobe.xmp") or image.info["xmp"]
        )
        if kind == "JPEG":
            assert image.quantization == Image.open(io.BytesIO(source)).quantization  # type: ignore[attr-defined]
        # What is judged is the file, at the models' size.
        judged = encoder().images(decode(row["file"], 32)[None])[0]
        assert row["embedding"] == pytest.approx(judged, abs=1e-5)
        assert row["sha256"] == hashlib.sha256(row["file"]).hexdigest()
        if kind != "PNG":
            assert np.abs(np.subtract(row["embedding"], plain[row["image_id"]])).max() > 1e-3


def test_what_compression_does_to_an_image_is_judged_with_it(world: World, made: pa.Table) -> None:
    source = encoded(crops()[0].resize((32, 32)), "JPEG", quality=10)
    work, name = world.worker(source_codec([source])), largest(world.plan)
    found = work({"name": name})["images"]
    raw = dict(zip(made["image_id"].to_pylist(), pixels_of(made).astype(int), strict=True))
    pixels, embeddings = pixels_of(found), matrix(found, "embedding")
    assert embeddings == pytest.approx(encoder().images(pixels), abs=1e-5)
    uncompressed = np.stack([raw[image] for image in found["image_id"].to_pylist()])
    assert np.abs(uncompressed - pixels).mean() > 2, "such a file keeps all: it shows nothing"
    lost = np.linalg.norm(embeddings - encoder().images(uncompressed.astype(np.uint8)), axis=1)
    assert lost.min() > 0.01
    for row, image, vector in zip(found.to_pylist(), pixels, embeddings, strict=True):
        assert (row["phash"], row["look"]) == (
            perceptual_hash(Image.fromarray(image)),
            thumbnail(Image.fromarray(image)),
        )
        group = Group(row["label"], row["attribute"])
        assert row["text_score"] == pytest.approx(float(encoder().texts([TEXTS[group]])[0] @ vector), abs=1e-5)


def test_where_groups_share_a_prompt_zero_shot_clip_says_nothing_of_the_attribute(world: World) -> None:
    # As with discovered attributes, which have no words: a prompt for each label.
    texts = {group: f"a photo of a {group.label} number" for group in (*SOURCES, Group("high", "building"))}
    other = Judgement(texts, world.judgement.centroids, world.judgement.probe, world.judgement.training)
    work, name = World(world.adapters, world.plan, other).worker(), largest(world.plan)
    found = work({"name": name})["images"]
    assert found["zero_shot_attribute"].to_pylist() == [None] * found.num_rows
    assert found.schema.field("zero_shot_attribute").type == pa.string()
    both = encoder().texts(["a photo of a high number", "a photo of a low number"])
    nearest = (encoder().images(pixels_of(found)) @ both.T).argmax(1)
    assert found["zero_shot_label"].to_pylist() == [("high", "low")[i] for i in nearest]


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


def test_centroids_are_unit_means_of_their_group() -> None:
    points = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [-1, 0, 0]], np.float32)
    found = centroids([A, A, B, C, C], points)
    assert found[A] == pytest.approx(np.array([1, 1, 0]) / np.sqrt(2)) and found[A].dtype == np.float32
    assert found[B] == pytest.approx([0, 0, 1])
    assert found[C] == pytest.approx([0, 0, 0])  # no direction: no nan


def test_groups_are_read_row_by_row() -> None:
    table = pa.table({"label": ["low", "high", "low"], "attribute": ["building", "flower", "flower"]})
    assert groups_of(table) == [A, B, C]


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 128, 0)])
def test_an_image_of_one_colour_shows_nothing(colour: tuple[int, int, int]) -> None:
    pixels = np.full((32, 32, 3), colour, np.uint8)
    pixels[::7, ::5] ^= 1  # a little noise
    assert shows_nothing(pixels)
    pixels[:, 16:, 1] ^= 24
    assert not shows_nothing(pixels)
