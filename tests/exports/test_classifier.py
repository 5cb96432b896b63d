"""classifier/ in transformers' hands: odd images, labels that are numbers, many labels."""

from __future__ import annotations

import io
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from fairsynth.classify.images import MEAN, STD
from fairsynth.data.decode import decode
from fairsynth.exports.classifier import publish
from tests.support.models.classifiers import SIDE, expected_of, put_run

LABELS = ["1", "0", *(f"label {n:02d}" for n in range(38))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_run(tmp_path_factory.mktemp("run"), LABELS, 2)


@pytest.fixture(scope="module")
def processor(run: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which of its image processors it takes
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(run / "classifier")


def image(width: int = 96, height: int = 96) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [columns * 250 / width, rows * 250 / height, 250 - (rows + columns) * 125 / (width + height)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def saved(picture: Image.Image, format: str = "PNG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **more)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image(), "JPEG", exif=exif)


def half_transparent(mode: str) -> bytes:
    picture = image()
    picture.putalpha(128)
    return saved(picture.convert(mode))


def exchanged() -> bytes:
    """A profile of a display whose red and blue are exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"?XYZ"), (b"bXYZ", b"rXYZ"), (b"?XYZ", b"bXYZ")):
        profile = profile.replace(old, new)
    return saved(image(), icc_profile=profile)


def levels(processor: Any, path: Path) -> float:
    """Largest difference between what transformers and fairsynth make of a file, in levels of 0 to 255."""
    from transformers.image_utils import load_image

    theirs = processor(load_image(str(path)), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    return float(np.abs((theirs * STD + MEAN) * 255 - decode(path.read_bytes(), SIDE)).max())


@pytest.mark.parametrize(
    "content",
    [
        saved(image()), saved(image(500, 500)), saved(image(SIDE, SIDE)), saved(image(), "JPEG"), turned(),
        saved(image().convert("L")), saved(image().convert("1")), saved(image().quantize(64)),
        saved(image().quantize(64), "GIF"), saved(image().convert("CMYK"), "JPEG"),
    ],
    ids=["rgb", "large", "as trained", "jpeg", "turned by EXIF", "grey", "1 bit", "palette", "gif", "cmyk"],
)  # fmt: skip
def test_transformers_reads_square_images_as_fairsynth_does(processor: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert levels(processor, tmp_path / "x") < 0.01


@pytest.mark.parametrize(
    ("content", "least"),
    [
        (saved(image(133, 96)), 0.5), (half_transparent("RGBA"), 50), (half_transparent("LA"), 50), (exchanged(), 50),
        (saved(Image.fromarray((np.mgrid[0:96, 0:96][0] * 600).astype(np.uint16))), 50),
        (saved(Image.fromarray((np.mgrid[0:96, 0:96][0] / 96).astype(np.float32)), "TIFF"), 50),
    ],
    ids=["no square", "rgba", "grey with alpha", "a colour profile", "16 bit", "float"],
)  # fmt: skip
def test_where_docs_say_that_they_differ_they_do(processor: Any, tmp_path: Path, content: bytes, least: float) -> None:
    (tmp_path / "x").write_bytes(content)
    assert levels(processor, tmp_path / "x") > least


def test_many_labels_and_such_that_are_numbers_keep_their_names(run: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import pipeline

        classify = pipeline("image-classification", model=str(run / "classifier"))
    path = str(run / "images" / "a" / "0.png")
    for top_k in (1, 5, len(LABELS), 100):
        found = classify(path, top_k=top_k)
        order = expected_of(run)[0].argsort()[::-1][:top_k]
        assert [one["label"] for one in found] == [LABELS[place] for place in order]
        assert [one["score"] for one in found] == pytest.approx(expected_of(run)[0][order].tolist(), abs=1e-5)
    assert classify.model.config.label2id["0"] == 1 and classify.model.config.id2label[0] == "1"


def test_all_its_files_can_be_read_by_the_same_people(run: Path) -> None:
    assert len({file.stat().st_mode for file in (run / "classifier").iterdir()}) == 1


def test_a_run_without_fairsynth_among_its_methods_leaves_no_classifier(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "classifier"
    shutil.copytree(run / "classifier", target)  # of an earlier config
    (target / "README.md").write_text("made by fairsynth")
    publish(tmp_path / "there is none", target, LABELS, SIDE, {"methods": [{"name": "erm"}]})
    assert not target.exists() and not list(tmp_path.iterdir())
