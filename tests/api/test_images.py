"""Sets of images: parts, groups, files; what cannot be found or read is told; hostile words stay text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import fairsynth as fs
from tests.support.datasets import encoded

HOSTILE = "<script>alert(1)</script>\x1b[2J"
WORDS = {"label": ["high", "low"], "attribute": ["flower", HOSTILE]}


def colour(place: int) -> np.ndarray:
    return np.full((20, 30 + place, 3), 40 * place, np.uint8)


def make(folder: Path, row: Mapping[str, Any]) -> fs.SyntheticImage:
    facts = {name: row[name] for name in ("image_id", "label", "attribute", "path", "prompt", "seed")}
    return fs.SyntheticImage(**facts, _read=(folder / row["path"]).read_bytes)


@pytest.fixture
def images(tmp_path: Path) -> fs.ImageSet[fs.SyntheticImage]:
    rows = []
    for place in range(6):
        label, attribute = WORDS["label"][place % 2], WORDS["attribute"][place // 3]
        (tmp_path / f"{place}.png").write_bytes(encoded(Image.fromarray(colour(place))))
        rows.append(
            {
                "image_id": f"id{place}",
                "label": label,
                "attribute": attribute,
                "path": f"{place}.png",
                "prompt": "p",
                "seed": place,
            }
        )
    return fs.ImageSet(pa.Table.from_pylist(rows), partial(make, tmp_path), WORDS)


def test_it_is_a_sequence(images: fs.ImageSet[fs.SyntheticImage]) -> None:
    assert [one.seed for one in images] == [*range(6)] and len(images) == 6
    assert images[2] == [*images][2] and images[-1].image_id == "id5"
    assert [one.seed for one in images[1:4]] == [1, 2, 3] and [one.seed for one in images[::-2]] == [5, 3, 1]
    assert images[6:].table.num_rows == 0 and [*images[6:]] == []
    with pytest.raises(IndexError, match="place 6"):
        images[6]


def test_images_are_read_as_they_are(images: fs.ImageSet[fs.SyntheticImage]) -> None:
    for place, one in enumerate(images):
        assert np.array_equal(np.asarray(one.image), colour(place)) and one.image.mode == "RGB"
        assert one.file.startswith(b"\x89PNG") and (one._repr_png_() or b"").startswith(b"\x89PNG")


def test_a_group_is_picked_by_its_words(images: fs.ImageSet[fs.SyntheticImage]) -> None:
    assert [one.seed for one in images.where(label="high")] == [0, 2, 4]
    assert [one.seed for one in images.where("low", HOSTILE)] == [3, 5]
    assert images.where("high", "flower").counts == {fs.Group("high", "flower"): 2}
    assert len(images.where(label="high").where(label="low")) == 0
    assert images.counts == {("high", "flower"): 2, ("high", HOSTILE): 1, ("low", "flower"): 1, ("low", HOSTILE): 2}
    with pytest.raises(fs.ConfigError, match=r"no label 'hgih' \(did you mean 'high'\?\); there are: high, low"):
        images.where(label="hgih")
    with pytest.raises(fs.ConfigError, match="these images have no split"):
        images.where(split="train")


def test_splits_have_the_words_that_tables_use(images: fs.ImageSet[fs.SyntheticImage]) -> None:
    table = images.table.append_column("split", pa.array(["train", "val", "test"] * 2))
    known = {"label": ["high", "low"], "split": ["train", "val", "test"]}
    split = fs.ImageSet(table, images._make, known)
    assert [one.seed for one in split.where(split="validation")] == [one.seed for one in split.where(split="val")] != []
    assert len(split.where(split="Training")) == 2
    with pytest.raises(fs.ConfigError, match="no split 'valdation'"):
        split.where(split="valdation")


def test_what_is_gone_or_no_image_is_told(images: fs.ImageSet[fs.SyntheticImage], tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(fs.DataError, match=r"image '0\.png' cannot be read \(unidentified\)"):
        _ = images[0].image


def test_a_grid_shows_each_whole(images: fs.ImageSet[fs.SyntheticImage]) -> None:
    grid = images.grid(n=5, columns=3, side=40)
    assert grid.size == (120, 80)
    middles = [grid.getpixel((i % 3 * 40 + 10, i // 3 * 40 + 10)) for i in range(6)]
    assert middles == [(40 * i,) * 3 for i in range(5)] + [(255, 255, 255)]
    assert images[6:].grid(columns=2, side=10).size == (20, 10)


class Texts(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.texts = set[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_hostile_words_stay_text(images: fs.ImageSet[fs.SyntheticImage]) -> None:
    page = Texts(images._repr_html_())
    assert page.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td"} and HOSTILE in page.texts
    assert "\x1b" not in repr(images) and repr(images).startswith("<ImageSet: 6 images; (high, <script>")


def test_other_libraries_read_them(images: fs.ImageSet[fs.SyntheticImage]) -> None:
    theirs = images.as_huggingface()
    assert theirs.column_names == ["image", *images.table.column_names] and theirs["seed"][:] == [*range(6)]
    assert np.array_equal(np.asarray(theirs[4]["image"]), colour(4))


@pytest.mark.slow
def test_torch_reads_them(images: fs.ImageSet[fs.SyntheticImage]) -> None:
    import torch
    from torch.utils.data import DataLoader

    plain = images.as_torch()
    pixels, label = plain[3]
    assert len(plain) == 6 and label == 1 and pixels.shape == (3, 20, 33) and pixels.dtype == torch.float32
    assert torch.equal((pixels * 255).round().to(torch.uint8), torch.from_numpy(colour(3)).permute(2, 0, 1))
    sizes = images.as_torch(lambda image: torch.tensor(image.size))
    batch, labels = next(iter(DataLoader(sizes, batch_size=6)))
    assert batch[:, 0].tolist() == [*range(30, 36)] and labels.tolist() == [0, 1] * 3
