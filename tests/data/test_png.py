"""PNG files whose pixels are sound are read, whatever else they carry: long, damaged or exploding chunks."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from fairsynth.config import ImageRules
from fairsynth.data.colour import LARGEST_PROFILE
from fairsynth.data.decode import decode, inspect_image
from fairsynth.data.png import essentials
from tests.support.data.pictures import FRAMES, NOISE, PICTURE, reason, refused
from tests.support.datasets import encoded

PLAIN = encoded(PICTURE)
AT_END = len(PLAIN) - 12  # before IEND
AFTER_HEADER = 8 + 12 + 13
MEGABYTE = b"x" * (1 << 20)
PACKER = zlib.compressobj()
BOMB = b"".join([*(PACKER.compress(MEGABYTE) for _ in range(256)), PACKER.flush()])


def chunk(name: bytes, data: bytes, damage: int = 0) -> bytes:
    """A chunk; with ``damage`` its checksum is wrong."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ damage)


def with_chunk(name: bytes, data: bytes, damage: int = 0, place: int = AFTER_HEADER) -> bytes:
    """The picture with one more chunk."""
    return PLAIN[:place] + chunk(name, data, damage) + PLAIN[place:]


def swapped(padding: int = 0) -> bytes:
    """A colour profile that exchanges red and blue, made larger by a part that nobody reads."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ") + bytes(padding)
    return struct.pack(">I", len(profile)) + profile[4:]


TEXTS = {
    "packed": (b"zTXt", b"workflow\0\0" + zlib.compress(MEGABYTE + b"more")),
    "plain": (b"tEXt", b"workflow\0" + MEGABYTE * 3),
    "international": (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(MEGABYTE * 3)),
    "with metadata": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(MEGABYTE * 3)),
    "of an unknown method": (b"zTXt", b"workflow\0\7" + zlib.compress(b"text")),
    "damaged": (b"zTXt", b"Raw profile type exif\0\0no deflate"),
    "cut off": (b"iTXt", b"XML:com.adobe.xmp\0"),
    "without a name": (b"tEXt", b""),
}


@pytest.mark.parametrize("place", [AFTER_HEADER, AT_END], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("text", TEXTS)
def test_texts_do_not_matter_to_pixels(text: str, place: int) -> None:
    image, facts = inspect_image(with_chunk(*TEXTS[text], place=place))
    assert np.array_equal(np.asarray(image), NOISE)
    assert facts == inspect_image(PLAIN)[1]


def test_any_number_of_texts_may_be_there() -> None:
    many = b"".join(chunk(b"tEXt", b"note\0" + MEGABYTE) for _ in range(70))  # more than Pillow takes in all
    assert np.array_equal(decode(PLAIN[:AFTER_HEADER] + many + PLAIN[AFTER_HEADER:]), NOISE)


@pytest.mark.parametrize(
    "name", [b"tEXt", b"tIME", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"eXIf", b"tRNS", b"prVt"]
)
def test_a_chunk_beside_the_pixels_may_be_damaged(name: bytes) -> None:
    profile = b"name\0\0" + zlib.compress(swapped())
    for data in (b"", b"\0", profile if name == b"iCCP" else b"\0\1\0\2\0\3"):
        assert np.array_equal(decode(with_chunk(name, data, damage=1)), NOISE)
    for data in (b"", b"\0"):
        if name != b"tRNS":  # too short for a colour: what is transparent is not known
            assert np.array_equal(decode(with_chunk(name, data)), NOISE)


@pytest.mark.parametrize(("name", "start"), [("IHDR", 8), ("PLTE", AFTER_HEADER)])
def test_a_damaged_chunk_of_the_pixels_is_told_in_pillows_words(name: str, start: int) -> None:
    content = bytearray(encoded(PICTURE.convert("P")))
    content[start + 9] ^= 1
    bad = refused(bytes(content))
    assert bad.args == ("unidentified", f"PNG that cannot be read: broken PNG file (bad header checksum in b'{name}')")


def test_what_decides_the_look_stays() -> None:
    key = tuple(int(value) for value in NOISE[5, 7])
    transparent = decode(encoded(PICTURE, transparency=key), rules=ImageRules(background="#102030"))
    assert tuple(transparent[5, 7]) == (0x10, 0x20, 0x30) and (transparent != NOISE).any(axis=-1).sum() < 9
    palette = PICTURE.convert("P")
    assert np.array_equal(decode(encoded(palette)), np.asarray(palette.convert("RGB")))
    assert np.array_equal(decode(with_chunk(b"iCCP", b"name\0\0" + zlib.compress(swapped()))), decode(coloured(0)))
    frames = encoded(FRAMES[0], save_all=True, append_images=FRAMES[1:], pnginfo=long_text(), icc_profile=swapped())
    image, facts = inspect_image(frames, ImageRules(constant="keep"))
    assert facts.frames == 3 and image.getpixel((4, 4)) == pytest.approx((0, 0, 255), abs=2)


def long_text() -> PngImagePlugin.PngInfo:
    """A text that Pillow refuses."""
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * (1 << 20) + "more", zip=True)
    return info


def coloured(padding: int) -> bytes:
    """The picture with a colour profile as Pillow writes it."""
    return encoded(PICTURE, icc_profile=swapped(padding))


def test_large_profiles_are_applied_up_to_the_limit_of_all_formats() -> None:
    applied, size = decode(coloured(0)), len(swapped())
    assert not np.array_equal(applied, NOISE)
    for padding in (2 << 20, LARGEST_PROFILE - size):
        assert np.array_equal(decode(coloured(padding)), applied)
    assert np.array_equal(decode(coloured(LARGEST_PROFILE - size + 1)), NOISE)


def profile_text(orientation: int) -> str:
    """Exif as ImageMagick writes it into a text."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = exif.tobytes()
    return f"\nexif\n{len(content):8}\n{content.hex()}\n"


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    ("name", "text"), [("Raw profile type exif", profile_text(6)), ("XML:com.adobe.xmp", XMP)], ids=["exif", "xmp"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_texts_with_an_orientation_turn_the_picture(name: str, text: str, packed: bool) -> None:
    stored = Image.fromarray(np.rot90(NOISE).copy())
    for add in ("add_text", "add_itxt"):
        info = long_text()
        getattr(info, add)(name, text, zip=packed)
        assert np.array_equal(decode(encoded(stored, pnginfo=info)), NOISE)


# Fault case 9: bombs


@pytest.mark.parametrize(
    ("name", "start"),
    [
        (b"zTXt", b"workflow\0\0"), (b"iTXt", b"workflow\0\1\0\0\0"), (b"zTXt", b"Raw profile type exif\0\0"),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"), (b"iCCP", b"name\0\0"),
    ],
)  # fmt: skip
def test_a_chunk_that_unpacks_into_gigabytes_takes_no_memory(name: bytes, start: bytes) -> None:
    one = chunk(name, start + BOMB)
    content = PLAIN[:AFTER_HEADER] + one * 50 + PLAIN[AFTER_HEADER:]
    tracemalloc.start()
    try:
        assert np.array_equal(decode(content), NOISE)
        assert tracemalloc.get_traced_memory()[1] < 16e6, "bytes; the file itself is cut into a copy"
    finally:
        tracemalloc.stop()


def test_a_file_without_anything_else_is_not_even_copied() -> None:
    assert essentials(PLAIN) == (PLAIN, {}) and essentials(PLAIN)[0] is PLAIN
    photo = encoded(PICTURE, "JPEG")
    assert essentials(photo)[0] is photo


def test_a_cut_file_is_still_cut() -> None:
    long = with_chunk(*TEXTS["packed"])
    assert reason(long[: AFTER_HEADER + 100]) == "unidentified"
    assert reason(long[: len(long) // 2]) == "truncated"
    assert np.array_equal(decode(long + b"more"), NOISE)


# Fault case 3: what Pillow says


def test_the_reason_is_pillows_own_and_short() -> None:
    twelve_bits = bytearray(encoded(PICTURE, "JPEG"))
    twelve_bits[twelve_bits.index(b"\xff\xc0") + 4] = 12
    assert refused(bytes(twelve_bits)).args == ("unidentified", "JPEG that cannot be read: cannot handle 12-bit layers")
    named = with_chunk(b"IDAT", b"")[:AFTER_HEADER] + b"\0\0\0\1\x1b[2J" + bytes(9)
    assert refused(named).detail == r"PNG that cannot be read: broken PNG file (chunk b'\x1b[2J')"
    assert refused(bytes(99)).detail == "none of JPEG, PNG, WEBP, BMP, TIFF, GIF"


def test_long_words_are_cut_and_cannot_steer_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Image.Image:
        raise SyntaxError("bad\x1b[2J\n" + "y" * 300)

    monkeypatch.setitem(Image.OPEN, "BMP", (broken, lambda prefix: prefix.startswith(b"BM")))
    detail = refused(b"BM" + bytes(60)).detail
    assert detail.startswith("BMP that cannot be read: bad?[2J yyy") and len(detail) <= 240 and detail.isprintable()


def test_nothing_of_the_metadata_comes_out() -> None:
    image, _ = inspect_image(with_chunk(b"tEXt", b"Raw profile type exif\0a secret place"))
    assert image.info == {} and encoded(image) == PLAIN


def test_a_million_empty_chunks_take_no_memory() -> None:
    plain = encoded(PICTURE)
    end = plain.index(b"IEND") - 4
    chunk = b"\0\0\0\0aaAa" + zlib.crc32(b"aaAa").to_bytes(4, "big")
    content = plain[:end] + chunk * 200_000 + plain[end:]
    tracemalloc.start()
    pixels, _ = essentials(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pixels == plain and peak < 5_000_000
