"""Where memory runs out the same work is done in smaller parts, and ends with the same result."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairsynth.commands.predict.classify import probabilities_of
from fairsynth.errors import Exhausted
from fairsynth.models.encoder import ClipEncoder
from fairsynth.models.image_maker import ImageMaker
from fairsynth.models.memory import Parts, lacks_memory
from fairsynth.models.schedule import Sampling
from fairsynth.stages.embed.embedding import EmbedUnit
from tests.support.models.classifiers import put_run
from tests.support.models.making_images import MODELS, NAMES, adapters, furthest, made, row
from tests.support.models.memory import FAULTS, Fault, memory_for

__all__ = ["adapters"]

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)


def of_allocation(work: Callable[[], object]) -> BaseException:
    """The error of an allocation that no machine has memory for."""
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        work()
    return caught.value


# Fault case 44: the GPU's memory runs out. Batches shrink, the results stay.
def test_errors_that_say_that_memory_ran_out_are_told_from_others() -> None:
    assert lacks_memory(of_allocation(lambda: torch.empty(10**15)))
    assert lacks_memory(of_allocation(lambda: np.empty(10**15)))
    assert all(lacks_memory(fault()) for fault in FAULTS.values())
    assert lacks_memory(RuntimeError("CUDA error: out of memory"))
    others = (
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError("out of memory"),
    )
    assert not any(map(lacks_memory, others))


def test_parts_become_smaller_and_stay_so_and_nothing_is_lost_or_double() -> None:
    parts, tried = Parts("a piece", "buy more"), list[int]()

    def work(part: slice) -> list[int]:
        tried.append(part.stop - part.start)
        if tried[-1] > 3:
            raise FAULTS["torch"]()
        return list(range(10))[part]

    assert list(chain(*parts(10, work))) == list(range(10)) and tried == [10, 5, 3, 3, 3, 1]
    assert list(chain(*parts(10, work))) == list(range(10)) and tried[6:] == [3, 3, 3, 1]
    with pytest.raises(ZeroDivisionError):
        parts(10, lambda part: 1 // 0)
    assert parts.size == 3


def test_where_results_are_half_added_all_begins_anew() -> None:
    added: list[int] = []

    def work(part: slice) -> None:
        if part.start == 0:
            added.clear()
        for i in range(10)[part]:
            if i >= 4 and part.stop - part.start > 2:
                raise MemoryError
            added.append(i)

    Parts("a piece", "buy more", 4)(10, work, afresh=True)
    assert added == list(range(10))


def test_one_piece_that_does_not_fit_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        Exhausted, match=r"this machine has not enough memory for a piece: .* GiB are free \(.*GiB\); buy more$"
    ):
        Parts("a piece", "buy more")(4, lambda part: (_ for _ in ()).throw(FAULTS["torch"]()))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_images_are_the_same_made_in_smaller_batches(adapters: Path, fault: Fault) -> None:
    maker = ImageMaker(MODELS, Sampling(2), adapters)
    rows = [row(None, i, guidance=1.0 + i) for i in range(5)]
    expected = made(maker, rows)
    with memory_for(maker.pipeline.unet, 4, fault) as sizes:
        assert furthest(made(maker, rows), expected) <= 1
    # Guidance takes two samples an image.
    assert maker.denoised.size == 2 and max(sizes) == 4 and maker.decoded.size is None


def test_images_of_several_adapters_are_the_same_in_smaller_batches(adapters: Path) -> None:
    maker = ImageMaker(MODELS, Sampling(2), adapters)
    rows = [row(NAMES[i % 3], i) for i in range(6)]
    expected = made(maker, rows)
    plain = maker._stacked

    def stacked(some: Any) -> torch.Tensor:
        if len(some) > 2:
            raise FAULTS["torch"]()
        return plain(some)

    maker._stacked = stacked  # type: ignore[method-assign]
    assert furthest(made(maker, rows), expected) <= 1 and maker.denoised.size == 2


def test_latents_of_a_whole_unit_are_decoded_as_memory_allows(adapters: Path) -> None:
    maker = ImageMaker(MODELS, Sampling(1), adapters)
    rows = [row("a", i) for i in range(7)]
    expected = made(maker, rows)
    with memory_for(maker.pipeline.vae.decoder, 2) as sizes:
        assert furthest(made(maker, rows), expected) <= 1
    assert sizes == [2, 2, 2, 1] and maker.denoised.size is None, "the images are not made anew for it"


def test_an_image_that_does_not_fit_is_an_error_and_the_next_one_is_as_ever(adapters: Path) -> None:
    maker = ImageMaker(MODELS, Sampling(1), adapters)
    expected = made(maker, [row("a", 1)])
    with (
        memory_for(maker.pipeline.unet, 0),
        pytest.raises(Exhausted, match=r"an image of 32 pixels: .*resources.gpus_per_worker 1"),
    ):
        maker([row("a", 1), row("a", 2)])
    assert furthest(made(maker, [row("a", 1)]), expected) == 0


def test_embeddings_and_latents_are_the_same_in_smaller_batches() -> None:
    unit = EmbedUnit(MODELS, batch=8)
    good = [{"image_id": f"{i}", "path": f"{i}.png"} for i in range(9)]
    decoded = {
        "name": "images-000000",
        "good": good,
        "bad": [],
        "pixels": PIXELS,
        "sizes": np.full((len(PIXELS), 2), 32),
    }
    expected = unit(decoded)["embeddings"]
    with memory_for(unit.encoder.model.vision_model, 3), memory_for(unit.pipeline.vae.encoder, 2) as sizes:  # type: ignore[union-attr]
        found = unit(decoded)["embeddings"]
    assert max(sizes) == 2 and found.column_names == expected.column_names
    for name in ("embedding", "mean", "std"):
        ours, theirs = (np.array(table[name].to_pylist()) for table in (found, expected))
        assert np.abs(ours - theirs).max() < 1e-4, name
    assert found["image_id"] == expected["image_id"] and unit.encoder.parts.size in (2, 3)


def test_an_encoder_without_memory_for_one_image_says_so() -> None:
    encoder = ClipEncoder(MODELS)
    with memory_for(encoder.model.vision_model, 0), pytest.raises(Exhausted, match=r"an image in models\.clip"):
        encoder.images(PIXELS)


def test_predictions_are_the_same_in_smaller_batches(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(
        put_run(tmp_path, ["a", "b"]) / "classifier", use_safetensors=True
    ).eval()
    expected = probabilities_of(model, PIXELS)
    with memory_for(model, 4) as sizes:
        assert np.abs(probabilities_of(model, PIXELS) - expected).max() < 1e-5
    assert max(sizes) <= 4 and sum(sizes) == 9
