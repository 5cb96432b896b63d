"""What is seen of an image as it is made: scores, copies, looks, and what compression does to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairsynth.data.copies import CopyDetector, thumbnails
from fairsynth.data.near_duplicates import look, perceptual_hash
from fairsynth.data.vectors import matrix
from fairsynth.groups import Group
from fairsynth.stages.audit.memorisation import plant
from fairsynth.stages.synthesize.codec import source_codec
from fairsynth.stages.synthesize.generate import (
    FilterReferences,
    centroids,
    groups_of,
    is_blank,
)
from tests.support.datasets import crops, encoded
from tests.support.synthesize.worlds import (
    SOURCES,
    TEXTS,
    A,
    B,
    C,
    World,
    encoder,
    largest,
    learnt,
    made,
    pixels_of,
    real,
    units,
    world,
)

__all__ = ["made", "world"]


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
    probe, embeddings = world.references.probe, encoder().images(pixels_of(made)).astype(np.float64)
    assert (probe.labels, probe.attributes) == (("high", "low"), ("building", "flower"))
    for value, weights, second in (
        ("label", probe.label_weights_CD, "low"),
        ("attribute", probe.attribute_weights_CD, "flower"),
    ):
        slope = (weights[1] - weights[0]).astype(np.float64)
        chances = 1 / (1 + np.exp(-(embeddings @ slope[:-1] + slope[-1])))
        own = [p if name == second else 1 - p for p, name in zip(chances, made[value].to_pylist(), strict=True)]
        assert made[f"{value}_probability"].to_numpy() == pytest.approx(own, abs=1e-4)
        assert np.ptp(own) > 0.1


def test_looks_and_hashes_are_those_of_the_image(made: pa.Table) -> None:
    for row, pixels in zip(made.to_pylist(), pixels_of(made), strict=True):
        image = Image.fromarray(pixels)
        assert (row["phash"], row["look"]) == (perceptual_hash(image), look(image))
        assert row["sha256"] == hashlib.sha256(row["file"]).hexdigest()
        assert row["constant"] is False


# Fault case 42: an image is black.
def test_a_blank_image_is_marked(world: World) -> None:
    work, name = world.worker(), largest(world.plan)
    plain_make = work.make

    class Make:
        """Two of the images show nothing."""

        size = plain_make.size

        def begin(self, rows: list[Mapping[str, Any]]) -> Callable[[], NDArray[np.uint8]]:
            """Pixels of all rows."""
            found = plain_make(rows)
            found[1] = 0
            found[2] = (200, 10, 90)
            return lambda: found

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
    references = FilterReferences(TEXTS, world.references.centroids, world.references.probe, tmp_path)
    work = World(world.adapters, world.plan, references).worker()
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


def test_what_compression_does_to_an_image_is_seen_by_the_filter(world: World, made: pa.Table) -> None:
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
            look(Image.fromarray(image)),
        )
        group = Group(row["label"], row["attribute"])
        assert row["text_score"] == pytest.approx(float(encoder().texts([TEXTS[group]])[0] @ vector), abs=1e-5)


def test_where_groups_share_a_prompt_zero_shot_clip_says_nothing_of_the_attribute(world: World) -> None:
    # As with discovered attributes, which have no words: a prompt for each label.
    texts = {group: f"a photo of a {group.label} number" for group in (*SOURCES, Group("high", "building"))}
    other = FilterReferences(texts, world.references.centroids, world.references.probe, world.references.training)
    work, name = World(world.adapters, world.plan, other).worker(), largest(world.plan)
    found = work({"name": name})["images"]
    assert found["zero_shot_attribute"].to_pylist() == [None] * found.num_rows
    assert found.schema.field("zero_shot_attribute").type == pa.string()
    both = encoder().texts(["a photo of a high number", "a photo of a low number"])
    nearest = (encoder().images(pixels_of(found)) @ both.T).argmax(1)
    assert found["zero_shot_label"].to_pylist() == [("high", "low")[i] for i in nearest]


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
def test_an_image_of_one_colour_is_blank(colour: tuple[int, int, int]) -> None:
    pixels = np.full((32, 32, 3), colour, np.uint8)
    pixels[::7, ::5] ^= 1  # a little noise
    assert is_blank(pixels)
    pixels[:, 16:, 1] ^= 24
    assert not is_blank(pixels)
