"""A run's classifier, as a function of images."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairsynth.commands.predict import classify
from fairsynth.data.decode import decode
from fairsynth.data.metadata import BadImage
from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import printable

OneImage: TypeAlias = "Image.Image | NDArray[np.uint8] | str | os.PathLike[str] | bytes"
BATCH = 64
# Pillow's modes that the formats hold.
_PNG, _TIFF = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"), ("CMYK", "F", "YCbCr", "LAB")


@dataclass(frozen=True)
class Prediction:
    """What the classifier sees in an image.

    Examples
    --------
    >>> from fairsynth import Prediction
    >>> Prediction("high", {"high": 0.75, "low": 0.25}).probability
    0.75
    """

    label: str
    probabilities: dict[str, float]
    """Of every label; they add up to 1."""

    @property
    def probability(self) -> float:
        """That of ``label``, which is the highest."""
        return self.probabilities[self.label]


class Classifier:
    """The classifier in a folder ``classifier/``; its weights are loaded when it is first used.

    Called with one image it returns a ``Prediction``, with several a list of them. An image is a path, the bytes of an
    image file, a Pillow image, or an array of uint8, (H, W) or (H, W, 3). Its probabilities are those of
    ``fairsynth predict``: images are decoded by the same rule. Raises DataError for an image that cannot be read.

    Parameters
    ----------
    folder
        The folder ``classifier/``, wherever it was copied to.

    Examples
    --------
    >>> import fairsynth as fs
    >>> classifier = fs.open_run("runs/demo").classifier  # doctest: +SKIP
    >>> classifier("photo.png").label  # doctest: +SKIP
    'low'
    >>> [seen.probability for seen in classifier(["one.png", "two.png"])]  # doctest: +SKIP
    [0.98, 0.71]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser().absolute()
        if not (self.folder / "config.json").is_file():
            raise ConfigError(f"{self.folder} holds no classifier; give the folder classifier/ of a finished run")

    @cached_property
    def _loaded(self) -> classify.Loaded:
        return classify.load(self.folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the classifier's outputs."""
        return self._loaded.labels

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that an image is scaled and cut to."""
        return self._loaded.size

    if TYPE_CHECKING:

        @overload
        def __call__(self, images: OneImage) -> Prediction: ...  # type: ignore[overload-overlap]  # text is one path
        @overload
        def __call__(self, images: Iterable[OneImage]) -> list[Prediction]: ...

    def __call__(self, images: OneImage | Iterable[OneImage]) -> Prediction | list[Prediction]:
        """What is seen in one image, or in each of several."""
        if _is_one(images):
            return self._seen([images])[0]
        several = list(images)  # type: ignore[arg-type]
        return [seen for i in range(0, len(several), BATCH) for seen in self._seen(several[i : i + BATCH], i)]

    def _seen(self, images: Sequence[Any], first: int = 0) -> list[Prediction]:
        pixels = [self._pixels(image, first + i) for i, image in enumerate(images)]
        shares = classify.probabilities_of(self._loaded.model, np.stack(pixels))
        return [
            Prediction(self.labels[int(row.argmax())], dict(zip(self.labels, row.tolist(), strict=True)))
            for row in shares
        ]

    def _pixels(self, image: OneImage, place: int) -> NDArray[np.uint8]:
        try:
            return decode(_content(image), self.image_size, classify.RULES)
        except BadImage as problem:
            name = repr(printable(os.fspath(image))) if isinstance(image, str | os.PathLike) else f"number {place}"
            why = f"{problem.reason}: {problem.detail}" if problem.detail else problem.reason
            raise DataError(f"image {name} cannot be read ({why})") from None

    def __repr__(self) -> str:
        return f"<Classifier in {self.folder.name}/>"


def _is_one(images: object) -> bool:
    """Whether it is one image; an array of four dimensions is several."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return isinstance(images, Image.Image | str | os.PathLike | bytes)


def _content(image: OneImage) -> bytes:
    """The image as the bytes of a file, so that all kinds are decoded by one rule. Raises DataError."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return _file(Path(image).expanduser())
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))):
            raise DataError(
                f"an array of {image.dtype}, {image.shape} is no image; give uint8, (H, W), (H, W, 3) or several as (N, H, W, 3)"
            )
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    if not isinstance(image, Image.Image):
        raise DataError(f"a {type(image).__name__} is no image; give a path, a Pillow image or an array of uint8")
    return _encoded(image)


def _encoded(image: Image.Image) -> bytes:
    """Without loss, and with what turns the image and gives its colours."""
    buffer, exif = io.BytesIO(), image.getexif()
    kept = {"exif": exif.tobytes() if exif else None, "icc_profile": image.info.get("icc_profile")}
    if image.mode not in (*_PNG, *_TIFF):
        image = image.convert("RGB")
    image.save(buffer, "TIFF" if image.mode in _TIFF else "PNG", **{key: value for key, value in kept.items() if value})
    return buffer.getvalue()


def _file(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(
            f"{path} is a folder; give its images, for example sorted(Path({str(path)!r}).glob('*.jpg')), "
            f"or type: fairsynth predict {path} --run RUN"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"image {printable(str(path))!r} cannot be read: {error.strerror}") from None
