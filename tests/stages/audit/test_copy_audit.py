"""The detector of copies as a worker tests it: with the real CLIP, on the demo's images."""

from __future__ import annotations

import json
import pickle
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from fairsynth.config import ImageRules, ModelsConfig
from fairsynth.data.copies import thumbnails
from fairsynth.data.decode import decode
from fairsynth.data.metadata import BadImage
from fairsynth.data.storage import Storage
from fairsynth.data.vectors import matrix
from fairsynth.demo import dataset
from fairsynth.groups import Group
from fairsynth.models.encoder import ClipEncoder
from fairsynth.stages.audit.copy_audit import ReadImages, TestDetector, TestImages
from fairsynth.stages.audit.memorisation import DISGUISES
from tests.support.datasets import crops, encoded

MODELS = ModelsConfig(diffusion="demo", clip="demo", image_size=32)
TEXTS = {Group("low", "flower"): "a low number on a flower", Group("high", "building"): "a high number on a building"}
PLANTED = 60
Pixels = NDArray[np.uint8]


@cache
def demo() -> tuple[Pixels, Pixels]:
    """The demo's training images, and its validation images, which nothing learns from."""
    images = dataset.build(severity=0.95)
    train, held_out = (np.stack([i.pixels for i in images if i.split == split]) for split in ("train", "val"))
    return train, held_out


@cache
def encoder() -> ClipEncoder:
    return ClipEncoder(MODELS)


def tables_of(known: Pixels, planted: Pixels, held_out: Pixels, seed: int = 0) -> dict[str, pa.Table]:
    """The tables of a worker whose detector is built from the known images."""
    images = TestImages(encoder().images(known), thumbnails(known), partial(np.copy, planted), held_out.copy)
    return TestDetector(MODELS, images, TEXTS, seed)({"name": "self-test"})


def rates(known: Pixels, planted: Pixels, held_out: Pixels, seed: int = 0) -> dict[str, Any]:
    """What it says of the detector."""
    table = tables_of(known, planted, held_out, seed)["test"]
    assert table.num_rows == 1
    text = table["json"][0].as_py()
    assert json.dumps(json.loads(text), allow_nan=False)
    return json.loads(text)


@pytest.mark.slow
def test_nearly_all_planted_copies_are_found_and_hardly_any_other_image_is_taken_for_one() -> None:
    train, held_out = demo()
    chosen = np.random.default_rng(1).choice(len(train), PLANTED, replace=False)
    found = rates(train, train[chosen], held_out[:400])
    assert found["passed"] is True
    assert found["detected"]["n"] == PLANTED * len(DISGUISES) and found["detected"]["share"] >= 0.95
    assert found["false_alarms"]["n"] == 200 and found["false_alarms"]["share"] <= 0.02
    assert found["by_kind"].keys() == set(DISGUISES)
    shares = [disguise["share"] for disguise in found["by_kind"].values()]
    assert np.mean(shares) == pytest.approx(found["detected"]["share"]) and found["by_kind"]["plain"]["share"] == 1
    assert 0.75 <= found["threshold"] < 1


@pytest.mark.slow
def test_a_detector_that_does_not_know_the_images_does_not_pass() -> None:
    train, held_out = demo()
    found = rates(train[:300], train[300:330], held_out[:120])
    assert found["passed"] is False and found["detected"]["share"] < 0.1


@pytest.mark.parametrize(("planted", "held_out"), [(0, 50), (5, 0), (5, 1), (0, 0)])
def test_too_few_images_are_no_test_and_it_is_said_why(planted: int, held_out: int) -> None:
    train, others = demo()
    found = rates(train[:20], train[:planted], others[:held_out])
    assert found == {"passed": False, "why": "too few real images to test the detector of copies with"}


def test_a_test_on_few_images_does_not_pass_however_well_it_went() -> None:
    train, held_out = demo()
    found = rates(train[:20], train[:4], held_out[:8])
    assert (found["passed"], found["detected"]["n"], found["false_alarms"]["n"]) == (False, 20, 4)


def test_prompts_are_as_clip_sees_them_in_the_order_of_the_groups() -> None:
    train, held_out = demo()
    texts = tables_of(train[:5], train[:0], held_out[:0])["texts"]
    assert texts["label"].to_pylist() == ["high", "low"]
    assert texts["attribute"].to_pylist() == ["building", "flower"]
    alone = [encoder().texts([TEXTS[Group(*pair)]])[0] for pair in (("high", "building"), ("low", "flower"))]
    assert matrix(texts, "embedding") == pytest.approx(np.stack(alone), abs=1e-5)


def test_images_are_embedded_a_few_at_a_time() -> None:
    train, _ = demo()
    images = TestImages(encoder().images(train[:5]), thumbnails(train[:5]), train[:5].copy, train[:0].copy)
    work, sizes = TestDetector(MODELS, images, TEXTS, 0), list[int]()
    plain = work.encoder.images

    def counted(pixels: Pixels) -> NDArray[np.float32]:
        sizes.append(len(pixels))
        return plain(pixels)

    work.encoder.images = counted  # type: ignore[method-assign]
    assert work._encode(train[:70]) == pytest.approx(encoder().images(train[:70]), abs=1e-5)
    assert sizes == [32, 32, 6]


SIZE = 24


def files(folder: Path) -> dict[str, bytes]:
    """Images of several formats and sizes that are no multiples of each other."""
    (folder / "in" / "deep").mkdir(parents=True)
    some = crops()
    found = {
        "b.png": encoded(some[0]),
        "in/a.jpg": encoded(some[1].resize((50, 40)), "JPEG", quality=60),
        "in/deep/c.webp": encoded(some[2].resize((31, 77)), "WEBP"),
        "grey.png": encoded(some[3].convert("L")),
    }
    for name, content in found.items():
        (folder / name).write_bytes(content)
    return found


def test_images_are_read_where_and_when_they_are_asked_for(tmp_path: Path) -> None:
    names = ("in/a.jpg", "grey.png", "b.png", "in/deep/c.webp")
    read = ReadImages(Storage(str(tmp_path)), [(name, "") for name in names], SIZE, ImageRules())
    packed = pickle.dumps(read)
    assert len(packed) < 5000, "it carries no pixels"
    content = files(tmp_path)  # only now are there files
    for reader in (read, pickle.loads(packed)):
        found = reader()
        assert found.shape == (4, SIZE, SIZE, 3) and found.dtype == np.uint8
        for pixels, name in zip(found, names, strict=True):
            assert np.array_equal(pixels, decode(content[name], SIZE))
    assert len({pixels.tobytes() for pixels in read()}) == 4
    (tmp_path / "b.png").write_bytes(content["grey.png"])
    again = read()
    assert np.array_equal(again[1], again[2]), "nothing is kept from before"


def test_no_images_are_read_as_none_of_their_size(tmp_path: Path) -> None:
    found = ReadImages(Storage(str(tmp_path)), [], SIZE, ImageRules())()
    assert found.shape == (0, SIZE, SIZE, 3) and found.dtype == np.uint8


def test_images_are_read_by_their_location_and_by_the_datasets_rules(tmp_path: Path) -> None:
    content = files(tmp_path)
    both = content["b.png"] + content["grey.png"]
    (tmp_path / "shard.tar").write_bytes(both)
    cut = len(content["b.png"])
    at = [("x", f"tar:{cut}:{len(both) - cut}:shard.tar"), ("y", f"tar:0:{cut}:shard.tar")]
    first, second = ReadImages(Storage(str(tmp_path)), at, SIZE, ImageRules())()
    assert np.array_equal(first, decode(content["grey.png"], SIZE))
    assert np.array_equal(second, decode(content["b.png"], SIZE))
    with pytest.raises(BadImage, match="too_small"):
        ReadImages(Storage(str(tmp_path)), [("in/a.jpg", "")], SIZE, ImageRules(min_side=45))()


def test_the_detector_reads_its_images_in_the_worker_and_not_before(tmp_path: Path) -> None:
    train, held_out = demo()
    calls = list[str]()

    def read(name: str, pixels: Pixels) -> Pixels:
        calls.append(name)
        return pixels

    images = TestImages(
        encoder().images(train[:20]),
        thumbnails(train[:20]),
        partial(read, "training", train[:4]),
        partial(read, "held out", held_out[:8]),
    )
    work = TestDetector(MODELS, images, TEXTS, 0)
    assert calls == []
    found = json.loads(work({"name": "self-test"})["test"]["json"][0].as_py())
    assert sorted(calls) == ["held out", "training"]
    # Four images in five disguises each; of the eight others one half sets the threshold.
    assert (found["detected"]["n"], found["false_alarms"]["n"]) == (20, 4)
