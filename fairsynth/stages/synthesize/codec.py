"""Synthetic files in the format, quality and size of the source images.

If the source were JPEG and the synthetic images PNG, a classifier could tell them apart by compression alone. Most
images of a rare group are synthetic, so that would be a new shortcut to its label.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from PIL.PngImagePlugin import PngInfo

from fairsynth.artifacts import RECORD, Artifact
from fairsynth.errors import DataError
from fairsynth.run_folder.records import damaged
from fairsynth.stages.synthesize.codec_files import CODECS, Look, look_of
from fairsynth.version import __version__

# WebP files from which the quality of all is estimated: no file states it, and each costs some encodings.
_WEBP_SAMPLES = 8
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
# The packet's start and end let programs find it in a file of any format (XMP specification, part 1, 7.3.2).
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    f"<xmp:CreatorTool>fairsynth {__version__}</xmp:CreatorTool>"
    "<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    "</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>\n"
    '<?xpacket end="r"?>'
)


@dataclass(frozen=True)
class Codec:
    """How an image becomes a file. Plain values: ``to_dict`` gives JSON, ``from_dict`` takes it."""

    format: str
    """JPEG, PNG or WEBP."""
    mode: str
    """Pillow's mode of the stored pixels: L is grey, P has a palette, LA and RGBA an alpha channel."""
    side: int
    """Pixels of the square's side; of an image of another shape, of its shorter one."""
    tables: tuple[tuple[int, ...], ...] = ()
    """JPEG: quantisation tables, 64 values each in row order, for the first components; the last one for the rest."""
    subsampling: int = -1
    """JPEG: Pillow's number, 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0; -1 is none that Pillow can write, or grey."""
    progressive: bool = False
    optimized: bool = False
    """JPEG: Huffman tables of the file's own, not the standard's."""
    lossless: bool = False
    quality: int = 0
    """WebP, if lossy: 1 to 100, estimated."""

    @property
    def suffix(self) -> str:
        """The ending of a file's name, with its dot."""
        return _SUFFIXES[self.format]

    def to_dict(self) -> dict[str, Any]:
        """All fields; tuples become lists."""
        return asdict(self) | {"tables": [list(table) for table in self.tables]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Codec:
        """The inverse of ``to_dict``. Raises TypeError for a field that is unknown or missing, ValueError for a format."""
        if content["format"] not in _SUFFIXES:
            raise ValueError(
                f"the format of the synthetic files is {content['format']!r}; known: {', '.join(_SUFFIXES)}"
            )
        return cls(**{**content, "tables": tuple(tuple(table) for table in content["tables"])})


def codec_of(artifact: Artifact) -> Codec:
    """The codec of a finished synthesize stage. Raises DataError if its record has none that this version knows."""
    try:
        return Codec.from_dict(artifact.record["codec"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(artifact.path / RECORD, f"codec: {error}") from error


def source_codec(files: Iterable[bytes]) -> Codec:
    """The codec of a dataset, from a sample of its files in any order; one file is held at a time.

    The format that most files have (PNG stands for all but JPEG and WebP), and of its files the commonest
    way to write it: where a dataset mixes qualities, the commonest alone.
    ``side`` is the median of the shorter sides, and so the side itself where all are squares of one size:
    CLIP and the classifier see the middle square of an image, whose side is the shorter one (``data.decode``), and a
    synthetic image is such a square, or has the shorter side. Files that cannot be opened are left out.
    Raises DataError if none can be opened.
    """
    looks: Counter[Look] = Counter()
    sides: list[int] = []
    samples: dict[Look, list[bytes]] = {}
    for content in files:
        look_and_side = look_of(content)
        if look_and_side is None:
            continue
        look, side = look_and_side
        looks[look] += 1
        sides.append(side)
        if look.format == "WEBP" and not look.lossless and len(samples.setdefault(look, [])) < _WEBP_SAMPLES:
            samples[look].append(content)
    if not looks:
        raise DataError("none of the training images could be opened; 'fairsynth inspect' says what is wrong with them")
    look = _commonest(looks)
    codec = Codec(side=median_low(sides), **look._asdict())
    return replace(codec, quality=_webp_quality(samples[look], codec)) if look in samples else codec


def _commonest(looks: Counter[Look]) -> Look:
    """The commonest look of the commonest format; ties are broken by the alphabet, not by the order of the files."""
    formats = Counter[str]()
    for look, count in looks.items():
        formats[look.format] += count
    most = min(formats, key=lambda name: (-formats[name], name))
    return min((look for look in looks if look.format == most), key=lambda look: (-looks[look], look))


def _webp_quality(files: list[bytes], codec: Codec) -> int:
    """The quality at which the files' own pixels become about as large again; size grows with quality."""
    images, wanted = [], 0
    for content in files:
        with Image.open(io.BytesIO(content)) as image:
            images.append(image.convert(codec.mode))
        wanted += len(content)
    sizes = {0: 0}
    low, high = 0, 100
    while high - low > 1:
        middle = (low + high) // 2
        sizes[middle] = sum(len(_written(image, replace(codec, quality=middle))) for image in images)
        low, high = (middle, high) if sizes[middle] < wanted else (low, middle)
    sizes.setdefault(high, sum(len(_written(image, replace(codec, quality=high))) for image in images))
    return max(1, min((low, high), key=lambda quality: abs(sizes[quality] - wanted)))


def encode(pixels_HW3: NDArray[np.uint8], codec: Codec, xmp: bool = True, whole: bool = False) -> bytes:
    """The file of an RGB image: the middle square, scaled to the codec's side (Lanczos) if it has another.

    ``whole``: the image as it is, its shorter side scaled so.

    With ``xmp`` its metadata say that a model made it (IPTC DigitalSourceType trainedAlgorithmicMedia) and
    which program; no pixel says it, for that would be a shortcut, too.
    Raises ValueError for anything but uint8 of shape (H, W, 3).
    """
    if pixels_HW3.dtype != np.uint8 or pixels_HW3.ndim != 3 or pixels_HW3.shape[2] != 3:
        raise ValueError(f"pixels are {pixels_HW3.dtype} {pixels_HW3.shape}; give uint8 of shape (H, W, 3)")
    image, size = Image.fromarray(pixels_HW3), (codec.side, codec.side)
    if whole:
        size = (round(codec.side * image.width / min(image.size)), round(codec.side * image.height / min(image.size)))
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    return _written(_in_mode(image, codec.mode), codec, _XMP if xmp else "")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    # Pillow's convert would take the palette of 216 web colours with dithering: dots that no source has.
    return image.quantize(256) if mode == "P" else image.convert(mode)


def _written(image: Image.Image, codec: Codec, xmp: str = "") -> bytes:
    buffer, options = io.BytesIO(), dict[str, Any]()
    if xmp and codec.format != "PNG":
        options["xmp"] = xmp.encode()
    if codec.format == "JPEG":
        # Such a file is held whole; Pillow's own buffer is too small for noise in the best quality (4.2 bytes a pixel).
        ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 6 * image.width * image.height)
        options |= {"qtables": codec.tables, "progressive": codec.progressive, "optimize": codec.optimized}
        options |= {"subsampling": codec.subsampling} if codec.subsampling >= 0 else {}
    elif codec.format == "WEBP":
        options |= {"lossless": codec.lossless} | ({} if codec.lossless else {"quality": codec.quality})
    elif xmp:
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    image.save(buffer, codec.format, **options)
    return buffer.getvalue()


assert set(_SUFFIXES) == set(CODECS)
