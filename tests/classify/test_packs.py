"""Images as arrays: decoded by several threads, each at its place, with no more files ahead than memory should hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairsynth.artifacts import Units
from fairsynth.classify.packs import Packer, load_pack, pack, pack_name
from fairsynth.config import ANY_IMAGE, ImageRules
from fairsynth.data.decode import decode
from fairsynth.data.location import ImageReader
from fairsynth.data.storage import Storage
from fairsynth.errors import DataError
from tests.support.datasets import encoded, picture

SIZE = 8
NAMES = {"label_names": ["cat", "dog"], "attribute_names": ["in", "out"]}


def files_of(n: int) -> list[bytes]:
    return [encoded(picture(i % 2, i // 2 % 2, i), ("PNG", "JPEG")[i % 2]) for i in range(n)]


def groups_of(n: int) -> tuple[list[str], list[str]]:
    return [NAMES["label_names"][i % 2] for i in range(n)], [NAMES["attribute_names"][i // 2 % 2] for i in range(n)]


def test_every_image_is_at_its_place_whatever_order_files_come_in(tmp_path: Path) -> None:
    n = 300
    files, (labels, attributes) = files_of(n), groups_of(n)
    order = np.random.default_rng(0).permutation(n).tolist()
    pack(tmp_path, ((i, files[i]) for i in order), labels, attributes, *NAMES.values(), SIZE, ANY_IMAGE)
    found = load_pack(tmp_path)
    assert np.array_equal(found.pixels, [decode(file, SIZE, ANY_IMAGE) for file in files])
    assert found.labels.tolist() == [i % 2 for i in range(n)]
    assert found.groups.tolist() == [2 * (i % 2) + i // 2 % 2 for i in range(n)]
    assert np.load(tmp_path / "sizes.npy").tolist() == [2, 4]


def test_few_files_are_asked_for_ahead(tmp_path: Path) -> None:
    n, asked, read, ahead = 1000, [0], [0], []
    (file,) = files_of(1)

    def files() -> Iterator[tuple[int, bytes]]:
        for i in range(n):
            asked[0] += 1
            ahead.append(asked[0] - read[0])
            yield i, file

    def counted(content: bytes) -> bytes:
        read[0] += 1
        return content

    pack(tmp_path, files(), *groups_of(n), *NAMES.values(), SIZE, ANY_IMAGE, counted)
    assert asked == read == [n] and max(ahead) <= 200


@pytest.mark.parametrize("first", [0, 150, 299])
def test_of_several_errors_the_first_files_is_raised(first: int, tmp_path: Path) -> None:
    def broken(place: int) -> bytes:
        if place >= first:
            raise DataError(f"file {place}")
        return file

    (file,) = files_of(1)
    with pytest.raises(DataError, match=f"^file {first}$"):
        pack(
            tmp_path,
            zip(range(300), range(300), strict=True),
            *groups_of(300),
            *NAMES.values(),
            SIZE,
            ANY_IMAGE,
            broken,
        )


def test_real_images_are_those_that_ingest_saw(tmp_path: Path) -> None:
    data, files = tmp_path / "data", files_of(20)
    data.mkdir()
    labels, attributes = groups_of(20)
    reader, rows = ImageReader(Storage(f"{data}")), list[dict[str, Any]]()
    for i, file in enumerate(files):
        (data / f"{19 - i:02d}.png").write_bytes(file)
        sha256 = reader.read(f"{19 - i:02d}.png").sha256
        rows.append({"path": f"{19 - i:02d}.png", "location": "", "sha256": sha256})
        rows[-1] |= {"label": labels[i], "attribute": attributes[i]}
    units = Units(tmp_path / "units")
    packer = Packer(units, **NAMES, size=SIZE)
    packer.real("train", rows, reader, ImageRules())
    found = load_pack(units.large(pack_name("train")))
    assert np.array_equal(found.pixels, [decode(file, SIZE) for file in files])
    (data / "07.png").write_bytes(files[0])
    with pytest.raises(DataError, match=r"input_changed: '07\.png' is not what it was"):
        packer.real("val", rows, reader, ImageRules())
    assert units.done() == {pack_name("train")}
