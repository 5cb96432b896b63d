"""Images of every kind come to the classifier as their files would; what holds no classifier is told."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fairsynth as fs
from fairsynth.api.classifier import _content
from fairsynth.commands.predict.classify import RULES
from fairsynth.data.decode import decode
from tests.support.datasets import encoded
from tests.support.models.classifiers import put_run

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(PIXELS), "JPEG", exif=exif)


def palette() -> bytes:
    return encoded(Image.fromarray(PIXELS).convert("P", palette=Image.Palette.ADAPTIVE), transparency=3)


def test_another_classifier_in_the_folders_place_is_loaded(tmp_path: Path) -> None:
    first = put_run(tmp_path / "one", ["cat", "dog"])
    other = put_run(tmp_path / "two", ["x", "y", "z"])
    folder = first / "classifier"
    assert {*fs.Classifier(folder)(PIXELS).probabilities} == {"cat", "dog"}
    shutil.rmtree(folder)
    shutil.copytree(other / "classifier", folder)
    assert {*fs.Classifier(folder)(PIXELS).probabilities} == {"x", "y", "z"}


@pytest.mark.parametrize(
    "file",
    [
        encoded(Image.fromarray(PIXELS)),
        encoded(Image.fromarray(PIXELS).convert("L"), "JPEG"),
        encoded(Image.fromarray(PIXELS).convert("RGBA")),
        encoded(Image.fromarray(PIXELS).convert("LA")),
        encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 250)),
        encoded(Image.fromarray(PIXELS).convert("CMYK"), "TIFF"),
        encoded(Image.fromarray(PIXELS[..., 0].astype(np.float32) / 255), "TIFF"),
        encoded(Image.fromarray(PIXELS).convert("1")),
        turned(),
        palette(),
    ],
    ids=["rgb", "grey", "alpha", "grey-alpha", "deep", "inks", "float", "bits", "turned", "palette"],
)
def test_a_pillow_image_is_seen_as_its_file(file: bytes, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(file)
    for image in (Image.open(io.BytesIO(file)), tmp_path / "image", str(tmp_path / "image"), file):
        assert np.array_equal(decode(_content(image), 16, RULES), decode(file, 16, RULES))


def test_an_image_without_a_format_of_its_own_is_seen_as_rgb() -> None:
    image = Image.fromarray(PIXELS).convert("HSV")
    assert np.array_equal(decode(_content(image), None, RULES), np.asarray(image.convert("RGB")))


def test_an_array_is_its_pixels() -> None:
    assert np.array_equal(decode(_content(PIXELS), None, RULES), PIXELS)
    for grey in (PIXELS[..., 0], PIXELS[..., :1]):
        assert np.array_equal(decode(_content(grey), None, RULES), np.repeat(PIXELS[..., :1], 3, 2))


def test_a_folder_without_a_classifier_is_told(tmp_path: Path) -> None:
    with pytest.raises(fs.ConfigError, match="holds no classifier; give the folder classifier/ of a finished run"):
        fs.Classifier(tmp_path)
