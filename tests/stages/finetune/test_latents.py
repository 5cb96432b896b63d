"""The latents of an adapter's images: the right ones in the job's order, in however many files they lie."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from fairsynth.data.vectors import ragged, vectors
from fairsynth.groups import Group
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.latents import LatentFiles

# Of three different sizes: none can be taken for another.
SHAPE = (4, 2, 3)
IDS = tuple("abcdefgh")


def mean_of(image: str) -> NDArray[np.float32]:
    """Numbers that tell image, channel, row and column: image b has 1000 to 1023."""
    return (1000 * IDS.index(image) + np.arange(24)).reshape(SHAPE).astype(np.float32)


def std_of(image: str) -> NDArray[np.float32]:
    return mean_of(image) / np.float32(2) + 1


def write(path: Path, images: Sequence[str]) -> Path:
    """The columns that embed writes, and one that is of no use here."""
    columns = {"image_id": list(images), "embedding": vectors(np.ones((len(images), 5), np.float32))}
    for name, made in (("mean", mean_of), ("std", std_of)):
        columns[name] = vectors(np.stack([made(image).ravel() for image in images]))
    columns["latent_shape"] = pa.array([list(SHAPE)] * len(images), pa.list_(pa.int32()))
    pq.write_table(pa.table(columns), path)
    return path


def job(images: Sequence[str], class_prompt: str = "a low") -> AdapterJob:
    return AdapterJob(Group("low", "flower"), 0, tuple(images), "a sks low", class_prompt, 0, 1, 1e-3)


def files(folder: Path, parts: Sequence[Sequence[str]], prior: Mapping[str, Path] | None = None) -> LatentFiles:
    return LatentFiles([write(folder / f"{i}.parquet", part) for i, part in enumerate(parts)], prior or {})


@pytest.mark.parametrize("parts", [["abcdefgh"], ["hgfedcba"], ["gb", "fah", "dce"], list("hdbfcega")], ids=str)
@pytest.mark.parametrize("wanted", ["abcdefgh", "hca", "bgfa", "e"])
def test_images_come_in_the_order_of_the_job(parts: Sequence[str], wanted: str, tmp_path: Path) -> None:
    found = files(tmp_path, parts)(job(wanted))
    assert found.mean.dtype == found.std.dtype == np.float32
    assert np.array_equal(found.mean, np.stack([mean_of(image) for image in wanted]))
    assert np.array_equal(found.std, np.stack([std_of(image) for image in wanted]))
    assert found.prior is None


def test_one_job_after_another_gets_its_own(tmp_path: Path) -> None:
    load = files(tmp_path, ["gb", "fah", "dce"])
    for wanted in ("ab", "hgc", "ab"):
        assert load(job(wanted)).mean[:, 0, 0, 0].tolist() == [1000 * IDS.index(image) for image in wanted]


def test_class_latents_are_those_of_the_class_prompt(tmp_path: Path) -> None:
    prior = {"a low": tmp_path / "low.parquet", "a high": tmp_path / "high.parquet"}
    # Other numbers of images than the job has.
    for count, (prompt, path) in enumerate(prior.items(), 3):
        rows = np.arange(count * 24, dtype=np.float32).reshape(count, 24) - 100 * len(prompt)
        pq.write_table(pa.table({"mean": vectors(rows)}), path)
    load = files(tmp_path, ["abcd", "efgh"], prior)
    for count, prompt in ((3, "a low"), (4, "a high"), (3, "a low")):
        found = load(job("ea", prompt))
        expected = np.arange(count * 24, dtype=np.float32).reshape(count, *SHAPE) - 100 * len(prompt)
        assert found.prior is not None and np.array_equal(found.prior, expected)
        assert np.array_equal(found.mean, np.stack([mean_of("e"), mean_of("a")]))
    assert load(job("ea", "a tall")).prior is None


def test_what_is_done_to_the_arrays_is_done_to_copies(tmp_path: Path) -> None:
    path = tmp_path / "low.parquet"
    pq.write_table(pa.table({"mean": vectors(np.zeros((3, 24), np.float32))}), path)
    load = files(tmp_path, ["ab"], {"a low": path})
    found = load(job("ba"))
    assert found.prior is not None
    with warnings.catch_warnings():
        # That torch cannot protect what is read-only.
        warnings.simplefilter("error")
        for array in (found.mean, found.std, found.prior):
            torch.from_numpy(array).fill_(7)
    again = load(job("ba"))
    assert np.array_equal(again.mean, np.stack([mean_of("b"), mean_of("a")]))
    assert again.prior is not None and not again.prior.any()
    assert (found.mean == 7).all() and (found.std == 7).all() and (found.prior == 7).all()


def test_images_of_several_shapes_keep_theirs(tmp_path: Path) -> None:
    shapes = {"a": (4, 2, 3), "b": (4, 3, 2), "c": (4, 2, 3), "d": (4, 1, 5)}
    parts = []
    for number, some in enumerate(("cb", "da")):
        columns: dict[str, pa.Array] = {"image_id": pa.array(list(some))}
        for scale, name in enumerate(("mean", "std"), 1):
            columns[name] = ragged([scale * mean_of(i).ravel()[: int(np.prod(shapes[i]))] for i in some])
        columns["latent_shape"] = pa.array([list(shapes[i]) for i in some], pa.list_(pa.int32()))
        parts.append(tmp_path / f"{number}.parquet")
        pq.write_table(pa.table(columns), parts[-1])
    load = LatentFiles(parts, {})
    found = load(job("abd"))
    assert found.shapes == [shapes[i] for i in "abd"] and found.prior is None
    for image, mean, std in zip("abd", found.mean, found.std, strict=True):
        assert mean.dtype == np.float32 and np.array_equal(std, 2 * mean)
        assert mean.ravel().tolist() == mean_of(image).ravel()[: mean.size].tolist()
        torch.from_numpy(mean).fill_(7)
    alike = load(job("ca"))
    assert isinstance(alike.mean, np.ndarray) and alike.mean.shape == (2, 4, 2, 3)
    assert np.array_equal(alike.mean, np.stack([mean_of("c"), mean_of("a")]))


def test_an_image_that_was_never_embedded_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="h"):
        files(tmp_path, ["abc"])(job("ah"))
