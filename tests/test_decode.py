"""Files that are no good: each is refused with a reason, quickly, and does no harm."""

from __future__ import annotations

import struct
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairsynth.data import decode as module
from fairsynth.data.decode import BadImage, decode, read_file
from tests.worlds import encoded

NOISE = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)


def reason(content: bytes) -> str:
    """The reason for which a file is refused."""
    with pytest.raises(BadImage) as caught:
        decode(content)
    return caught.value.reason


def test_files_that_cannot_be_read_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    for name, expected in (("empty.png", "empty"), ("none.png", "missing_file"), (".", "unreadable")):
        with pytest.raises(BadImage) as caught:
            read_file(tmp_path / name)
        assert caught.value.reason == expected
    (tmp_path / "abc").write_bytes(b"abc")
    assert read_file(tmp_path / "abc").sha256.startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_refused_and_the_whole_one_is_not(kind: str, share: float) -> None:
    content = encoded(Image.fromarray(NOISE), kind)
    assert decode(content).shape == NOISE.shape
    cut = reason(content[: int(len(content) * share)])
    assert cut == "truncated" or (kind in ("WEBP", "GIF") and cut == "unidentified")


def test_pixels_that_are_no_numbers_are_refused() -> None:
    assert reason(encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF")) == "truncated"


@pytest.mark.parametrize(
    "content",
    [
        b"not an image" * 50,
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"%PDF-1.4 ",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0" * 100,
        b"\xff\xd8\xff",
    ],
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    assert reason(content) == "unidentified"


def test_formats_that_are_not_allowed_are_refused_and_the_name_does_not_count(tmp_path: Path) -> None:
    assert {reason(encoded(Image.fromarray(NOISE), kind)) for kind in ("PPM", "TGA", "ICO", "EPS", "PDF")} == {
        "unidentified"
    }
    (tmp_path / "photo.jpg").write_bytes(encoded(Image.fromarray(NOISE), "PNG"))
    assert np.array_equal(decode(read_file(tmp_path / "photo.jpg").content), NOISE)


@pytest.mark.parametrize("tag", [0x0100, 0x011A])
def test_a_wrong_field_beside_the_orientation_does_no_harm(tag: int) -> None:
    fields = sorted(
        [(0x0112, 3, 1, struct.pack("<I", 6)), (tag, 2, 3, b"ab\0\0")]
    )  # the tag is no text by the standard
    body = b"".join(struct.pack("<HHI", *field[:3]) + field[3] for field in fields)
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + body + bytes(4)
    assert np.array_equal(decode(encoded(Image.fromarray(np.rot90(NOISE).copy()), exif=exif)), NOISE)


@pytest.mark.parametrize("kind", [2, 7, 12])
def test_a_tiff_whose_table_is_nonsense_is_refused(kind: int) -> None:
    content = bytearray(encoded(Image.fromarray(NOISE), "TIFF"))
    (table,) = struct.unpack_from("<I", content, 4)
    entries = range(table + 2, table + 2 + 12 * struct.unpack_from("<H", content, table)[0], 12)
    (offsets,) = (entry for entry in entries if struct.unpack_from("<H", content, entry)[0] == 0x0111)
    struct.pack_into("<H", content, offsets + 2, kind)  # where the pixels are: given as text, bytes or a fraction
    assert reason(bytes(content)) in ("unidentified", "truncated")


@pytest.mark.parametrize("side", [8000, 20000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    content, began = encoded(Image.new("1", (side, side))), time.process_time()
    assert len(content) < 60_000 and reason(content) in ("too_large", "unidentified")
    assert time.process_time() - began < 0.2  # decoding takes ten times as long


@pytest.mark.parametrize(
    "side",
    [
        8000,
        20000,
    ],
)
def test_a_bomb_is_called_too_large(side: int) -> None:
    assert reason(encoded(Image.new("1", (side, side)))) == "too_large"


def test_decoding_in_threads_leaves_the_warning_filters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    filters, content, real = list(warnings.filters), encoded(Image.fromarray(NOISE)), Image.open
    inside = {"first": threading.Event(), "second": threading.Event()}

    def slow_open(*args: object, **options: object) -> Image.Image:
        name = threading.current_thread().name
        inside[name].set()
        inside["second"].wait(5) if name == "first" else first.join(5)
        return real(*args, **options)

    monkeypatch.setattr(module.Image, "open", slow_open)
    first, second = (threading.Thread(target=decode, args=(content,), name=name) for name in inside)
    first.start()
    inside["first"].wait(5)
    second.start()
    second.join(10)
    assert warnings.filters == filters  # pytest restores them
