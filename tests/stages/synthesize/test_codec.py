"""Synthetic files: written as the source's files are, with what says that they are synthetic, and no other trace."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairsynth import __version__
from fairsynth.errors import DataError
from fairsynth.stages.synthesize.codec import Codec, encode, source_codec
from tests.support.datasets import crops, encoded

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PIXELS = np.asarray(crops()[0])
JPEGS: list[dict[str, Any]] = [
    {"quality": 75},
    {"quality": 92, "subsampling": 0},
    {"quality": 50, "subsampling": 1, "progressive": True},
    {"quality": 95, "optimize": True},
    {"quality": 5},
    {"qtables": [[3] * 64]},
    {"qtables": [[2] * 64, [5] * 64, [9] * 64]},
]
FILES: dict[str, dict[str, Any]] = {"JPEG": {"quality": 80}, "PNG": {}, "WEBP": {"quality": 70}}


def pixels(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def segments(content: bytes) -> list[tuple[int, bytes]]:
    """Marker and content of a JPEG's segments up to the first scan."""
    found, place = [], 2
    while content[place + 1] != 0xDA:
        size = int.from_bytes(content[place + 2 : place + 4], "big")
        found.append((content[place + 1], content[place + 4 : place + 2 + size]))
        place += 2 + size
    return found


def written(content: bytes) -> dict[str, Any]:
    """How a JPEG was written, read from its bytes: marker of its frame, components, the tables that each of them uses."""
    parts = segments(content)
    tables = {}
    for _, data in (part for part in parts if part[0] == 0xDB):
        while data:
            size = 128 if data[0] >> 4 else 64
            tables[data[0] & 15], data = data[1 : 1 + size], data[1 + size :]
    start, frame = next((marker, data) for marker, data in parts if marker in (0xC0, 0xC1, 0xC2))
    components = [frame[6 + 3 * i : 9 + 3 * i] for i in range(frame[5])]
    huffman = b"".join(data for marker, data in parts if marker == 0xC4)
    return {
        "progressive": start == 0xC2,
        "size": frame[1:5],
        "sampling": [component[1] for component in components],
        "tables": [tables[component[2]] for component in components],
        "own huffman": huffman not in {b"".join(d for m, d in segments(standard()) if m == 0xC4)},
    }


def standard() -> bytes:
    return encoded(crops()[0], "JPEG")


def chunks(content: bytes) -> dict[bytes, bytes]:
    """A PNG's chunks, checksums verified, or a WebP's."""
    found, place = {}, 8 if content.startswith(b"\x89PNG") else 12
    while place < len(content):
        if content.startswith(b"\x89PNG"):
            size, name = struct.unpack(">I4s", content[place : place + 8])
            data = content[place + 8 : place + 8 + size]
            assert zlib.crc32(name + data) == int.from_bytes(content[place + 8 + size : place + 12 + size], "big")
            place += 12 + size
        else:
            name, size = struct.unpack("<4sI", content[place : place + 8])
            data = content[place + 8 : place + 8 + size]
            place += 8 + size + size % 2
        found[name] = data
    return found


def xmp_of(content: bytes) -> bytes:
    """The XMP packet, found as the format's specification says, without an image library."""
    if content.startswith(b"\xff\xd8"):
        start = b"http://ns.adobe.com/xap/1.0/\0"
        (packet,) = [data for marker, data in segments(content) if marker == 0xE1 and data.startswith(start)]
        return packet.removeprefix(start)
    if content.startswith(b"RIFF"):
        found = chunks(content)
        assert found[b"VP8X"][0] & 4, "the header does not announce the chunk"
        return found[b"XMP "]
    name, rest = chunks(content)[b"iTXt"].split(b"\0", 1)
    assert (name, rest[:4]) == (b"XML:com.adobe.xmp", b"\0\0\0\0"), "compressed, or in a language"
    return rest[4:]


@pytest.mark.parametrize("options", JPEGS, ids=str)
def test_a_jpeg_has_the_source_s_tables_sampling_and_frame(options: dict[str, Any]) -> None:
    source = encoded(crops()[3], "JPEG", **options)
    codec = source_codec([source])
    assert (codec.format, codec.suffix, codec.side) == ("JPEG", ".jpg", 96)
    assert written(encode(PIXELS, codec)) == written(source)


def test_a_table_is_found_by_the_component_that_uses_it() -> None:
    content = bytearray(encoded(crops()[0], "JPEG", quality=60))
    # The same file with the tables' numbers exchanged, in the tables and in the frame.
    for place in [i for i in range(len(content)) if content[i : i + 2] == b"\xff\xdb"]:
        content[place + 4] ^= 1
    frame = content.index(b"\xff\xc0")
    for component in range(3):
        content[frame + 12 + 3 * component] ^= 1
    codec = source_codec([bytes(content)])
    assert written(encode(PIXELS, codec))["tables"] == written(encoded(crops()[0], "JPEG", quality=60))["tables"]


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "RGB"])
def test_a_png_has_the_source_s_colour_type(mode: str) -> None:
    source = encoded(crops()[1].convert(mode))
    out = encode(PIXELS, source_codec([source]))
    assert chunks(out)[b"IHDR"][8:10] == chunks(source)[b"IHDR"][8:10]
    wanted = PIXELS if mode == "P" else pixels(encoded(crops()[0].convert(mode)))
    assert np.abs(pixels(out).astype(int) - wanted).mean() <= (4 if mode == "P" else 0)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_grey_sources_make_grey_files_of_rgb_pixels(format: str) -> None:
    out = encode(PIXELS, source_codec([encoded(crops()[1].convert("L"), format)] * 3))
    image = Image.open(io.BytesIO(out))
    assert (image.format, image.mode, image.size) == (format, "L", (96, 96))
    assert np.abs(np.asarray(image).astype(int) - np.asarray(crops()[0].convert("L")).astype(int)).mean() < 3


def test_webp_is_lossless_or_lossy_as_the_source() -> None:
    for lossless in (True, False):
        source = [encoded(image, "WEBP", lossless=lossless, quality=70) for image in crops()[:20]]
        codec, out = source_codec(source), encode(PIXELS, source_codec(source))
        assert (b"VP8L" in chunks(out), codec.lossless, codec.suffix) == (lossless, lossless, ".webp")
        assert bool((pixels(out) == PIXELS).all()) is lossless


def test_webp_s_image_is_found_behind_other_chunks() -> None:
    # A chunk of odd size is followed by a byte that is not counted.
    assert source_codec([encoded(crops()[0], "WEBP", lossless=True, icc_profile=b"odd")]).lossless


@pytest.mark.parametrize("quality", [10, 50, 80, 100])
def test_the_quality_of_webp_is_found_again(quality: int) -> None:
    codec = source_codec(encoded(image, "WEBP", quality=quality) for image in crops()[:40])
    assert abs(codec.quality - quality) <= 6


@pytest.mark.parametrize(
    ("format", "options", "apart"),
    [*(("JPEG", options, 0.01) for options in JPEGS[:3]), ("PNG", {}, 0.0), ("WEBP", {"quality": 80}, 0.04)],
)
def test_files_of_the_source_s_own_pixels_are_about_as_large(
    format: str, options: dict[str, Any], apart: float
) -> None:
    source = [encoded(image, format, **options) for image in crops()[:60]]
    codec = source_codec(source)
    sizes = np.array([(len(encode(pixels(file), codec, xmp=False)), len(file)) for file in source], float)
    assert abs(sizes[:, 0].sum() / sizes[:, 1].sum() - 1) <= apart
    assert np.corrcoef(sizes.T)[0, 1] > 0.995
    other = np.array(
        [len(encoded(Image.fromarray(pixels(file)), "PNG" if format != "PNG" else "JPEG")) for file in source]
    )
    assert abs(other.sum() / sizes[:, 1].sum() - 1) > 0.3, "the check would not see another format"


def test_the_commonest_format_and_of_it_the_commonest_way_count_in_any_order() -> None:
    jpegs = [encoded(crops()[i], "JPEG", quality=quality) for i, quality in enumerate([60] * 3 + [90] * 2)]
    files = [*jpegs, *[encoded(image) for image in crops()[:4]], b"no image", b""]
    found = set()
    for seed in range(5):
        Random(seed).shuffle(files)
        found.add(source_codec(iter(files)))
    assert found == {source_codec(jpegs[:1])}


def test_formats_that_are_not_written_become_png() -> None:
    codec = source_codec([encoded(crops()[0], "BMP")] * 2 + [encoded(crops()[0], "JPEG")])
    assert (codec.format, codec.mode, codec.suffix) == ("PNG", "RGB", ".png")


@pytest.mark.parametrize(
    ("sizes", "side"), [([(64, 64)] * 3, 64), ([(178, 218)] * 5, 178), ([(50, 90), (70, 40), (300, 200)], 50)]
)
def test_the_side_is_the_middle_shorter_side(sizes: list[tuple[int, int]], side: int) -> None:
    codec = source_codec(encoded(crops()[0].resize(size)) for size in sizes)
    assert pixels(encode(PIXELS, codec)).shape == (side, side, 3)


def test_without_a_file_that_opens_there_is_no_codec() -> None:
    with pytest.raises(DataError, match="could be opened; 'fairsynth inspect'"):
        source_codec([b"", b"x", encoded(crops()[0])[:20]])


@pytest.mark.parametrize("format", FILES)
def test_a_codec_survives_json(format: str) -> None:
    codec = source_codec([encoded(crops()[0], format, **FILES[format])])
    assert Codec.from_dict(json.loads(json.dumps(codec.to_dict()))) == codec
    with pytest.raises(TypeError):
        Codec.from_dict(codec.to_dict() | {"qualty": 3})


def test_noise_in_the_best_quality_is_written_too() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    codec = Codec("JPEG", "RGB", 300, ((1,) * 64,), 0, progressive=True)
    assert np.abs(pixels(encode(noise, codec)).astype(int) - noise).mean() < 1.5


@pytest.mark.parametrize("wrong", [PIXELS[..., :2], PIXELS[..., 0], PIXELS.astype(float)])
def test_other_pixels_are_refused(wrong: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="give uint8 of shape"):
        encode(wrong, Codec("PNG", "RGB", 96))


@pytest.mark.parametrize("format", FILES)
def test_a_file_says_that_it_is_synthetic_and_no_pixel_does(format: str) -> None:
    codec = source_codec([encoded(crops()[0], format, **FILES[format])])
    out, plain = encode(PIXELS, codec), encode(PIXELS, codec, xmp=False)
    assert (pixels(out) == pixels(plain)).all() and b"trainedAlgorithmicMedia" not in plain
    packet = xmp_of(out).decode()
    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>') and packet.endswith(
        '<?xpacket end="r"?>'
    )
    rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    root = ElementTree.fromstring(packet)
    assert root.tag == "{adobe:ns:meta/}xmpmeta"
    (description,) = root.findall(f"{rdf}RDF/{rdf}Description")
    assert {child.tag: child.text for child in description} == {
        "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType": SOURCE_TYPE,
        "{http://ns.adobe.com/xap/1.0/}CreatorTool": f"fairsynth {__version__}",
    }


@pytest.mark.skipif(
    not shutil.which("exiftool"), reason="exiftool is not installed (apt-get install libimage-exiftool-perl)"
)
def test_exiftool_reads_it(tmp_path: Path) -> None:
    for format, options in FILES.items():
        codec = source_codec([encoded(crops()[0], format, **options)])
        (tmp_path / f"{format}{codec.suffix}").write_bytes(encode(PIXELS, codec))
    command = ["exiftool", "-json", "-n", "-G1", "-XMP:all", "-validate", "-warning", "-error", str(tmp_path)]
    tags = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert len(tags) == 3
    for file in tags:
        assert file["XMP-iptcExt:DigitalSourceType"] == SOURCE_TYPE, file
        assert file["XMP-xmp:CreatorTool"] == f"fairsynth {__version__}", file
        assert not [value for key, value in file.items() if key.endswith((":Warning", ":Error"))], file


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_an_image_that_is_to_stay_whole_has_the_codecs_side_as_its_shorter_one(format: str) -> None:
    codec = source_codec([encoded(crops()[0].resize((48, 60)), format)])
    assert codec.side == 48
    for shape, expected in (((40, 30), (64, 48)), ((30, 40), (48, 64)), ((48, 50), (48, 50)), ((20, 20), (48, 48))):
        image = np.tile(PIXELS, (2, 2, 1))[: shape[0], : shape[1]]
        assert pixels(encode(image, codec, whole=True)).shape == (*expected, 3)
        assert pixels(encode(image, codec)).shape == (48, 48, 3)
    square = PIXELS[: min(PIXELS.shape[:2]), : min(PIXELS.shape[:2])]
    assert encode(square, codec, whole=True) == encode(square, codec)
