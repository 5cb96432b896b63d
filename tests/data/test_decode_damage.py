"""Damaged files are pixels or a bad image, whatever the damage, and decoding side by side changes nothing."""

from __future__ import annotations

import struct
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fairsynth.data.decode import FORMATS, decode
from fairsynth.data.metadata import BadImage
from tests.support.data.pictures import FRAMES, NOISE, PICTURE, reason
from tests.support.datasets import encoded

# Damage, and work done side by side


@pytest.mark.parametrize("tag", [0x0100, 0x011A])
def test_a_wrong_field_beside_the_orientation_does_no_harm(tag: int) -> None:
    fields = sorted(
        [(0x0112, 3, 1, struct.pack("<I", 6)), (tag, 2, 3, b"ab\0\0")]
    )  # the tag is no text by the standard
    body = b"".join(struct.pack("<HHI", *field[:3]) + field[3] for field in fields)
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + body + bytes(4)
    assert np.array_equal(decode(encoded(Image.fromarray(np.rot90(NOISE).copy()), exif=exif)), NOISE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Image appears to be a malformed MPO")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0"]
)
def test_a_picture_with_damaged_metadata_is_used_as_it_is(exif: bytes) -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        assert np.array_equal(decode(encoded(PICTURE, format, exif=exif)), decode(encoded(PICTURE, format)))
    photo = encoded(PICTURE, "JPEG")
    preview = b"MPF\0II*\0\x08\0\0\0" + exif[6:]
    marked = photo[:2] + b"\xff\xe2" + struct.pack(">H", len(preview) + 2) + preview + photo[2:]
    assert np.array_equal(decode(marked), decode(photo))


SEEDS = [
    *(encoded(PICTURE.resize((24, 16)), format) for format in FORMATS),
    *(encoded(PICTURE.resize((24, 16)), "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits")),
    encoded(PICTURE.resize((24, 16)), "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
    encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
    encoded(PICTURE.resize((24, 16)).convert("CMYK"), "JPEG"),
    encoded(Image.fromarray(NOISE[:16, :24].astype(np.uint16)[..., 0] * 257), "PNG"),
    encoded(PICTURE.resize((24, 16)).convert("P"), "PNG", transparency=b"\0\x80"),
]


def usable_or_bad(content: bytes) -> None:
    """Decoding ends with pixels or with BadImage."""
    try:
        pixels = decode(content, 8)
    except BadImage as bad:
        assert bad.reason in {
            *("empty", "pointer", "format", "unidentified", "too_large", "several_frames"),
            *("too_small", "aspect", "truncated", "not_finite", "low_information"),
        }
        return
    assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8


@given(start=st.sampled_from([b"", *(seed[:size] for seed in SEEDS for size in (4, 16, 40))]), rest=st.binary())
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_pixels_or_a_bad_image(start: bytes, rest: bytes) -> None:
    usable_or_bad(start + rest)


@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4)), min_size=1, max_size=5),
    end=st.floats(0.5, 1),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_pixels_or_a_bad_image(seed: bytes, edits: list[tuple[float, bytes]], end: float) -> None:
    content = bytearray(seed)
    for where, values in edits:
        start = int(len(content) * where)
        content[start : start + len(values)] = values
    usable_or_bad(bytes(content[: int(len(content) * end)]) if end < 0.9 else bytes(content))


def test_decoding_in_threads_leaves_the_warning_filters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    filters, content, real = list(warnings.filters), encoded(PICTURE), Image.open
    inside = {"first": threading.Event(), "second": threading.Event()}

    def slow_open(*args: Any, **options: Any) -> Image.Image:
        name = threading.current_thread().name
        inside[name].set()
        inside["second"].wait(5) if name == "first" else first.join(5)
        return real(*args, **options)

    monkeypatch.setattr(Image, "open", slow_open)
    first, second = (threading.Thread(target=decode, args=(content,), name=name) for name in inside)
    first.start()
    inside["first"].wait(5)
    second.start()
    second.join(10)
    assert warnings.filters == filters  # pytest restores them


def test_a_picture_cut_in_many_threads_is_still_called_cut() -> None:
    content, found = encoded(PICTURE, "JPEG"), []

    def work() -> None:
        for _ in range(20):
            found.append((decode(content).shape, reason(content[: len(content) // 2])))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [((96, 128, 3), "truncated")] * 80
