"""Files that are no good: each is refused with a reason, quickly, and does no harm."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fairsynth.config import ImageRules
from fairsynth.data import decode as module
from fairsynth.data.bad_image import BadImage
from fairsynth.data.decode import FORMATS, decode, inspect_image
from tests.support.datasets import encoded

NOISE = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
PICTURE = Image.fromarray(NOISE)
FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]


def refused(content: bytes, rules: ImageRules | None = None) -> BadImage:
    """The refusal of a file."""
    with pytest.raises(BadImage) as caught:
        decode(content, rules=rules or ImageRules())
    return caught.value


def reason(content: bytes, rules: ImageRules | None = None) -> str:
    """The reason for which a file is refused."""
    return refused(content, rules).reason


def tiff(side: int, tile: tuple[int, int], compression: int) -> bytes:
    """A grey TIFF with one tile of zeros, which may be said to be of any size."""
    data, tags = (
        bytes(100),
        {256: side, 257: side, 258: 8, 259: compression, 262: 1, 277: 1, 322: tile[0], 323: tile[1]},
    )
    entries = sorted((tags | {324: 8, 325: len(data)}).items())
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + table + bytes(4)


def webp_of(width: int, height: int) -> bytes:
    """A WebP animation of 8 x 8 pixels that says its canvas is larger."""
    content = bytearray(encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]))
    content[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(content)


def gif_of(width: int, height: int) -> bytes:
    """A GIF whose screen is said to be larger than its frame."""
    content = encoded(FRAMES[0], "GIF")
    return content[:6] + struct.pack("<HH", width, height) + content[10:]


# 1, 2 and 3: no bytes, not all bytes, no image


def test_a_file_without_bytes_is_empty() -> None:
    assert reason(b"") == "empty"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_refused_and_the_whole_one_is_not(kind: str, share: float) -> None:
    content = encoded(PICTURE, kind)
    assert decode(content).shape == NOISE.shape
    cut = reason(content[: int(len(content) * share)])
    assert cut == "truncated" or (kind in ("WEBP", "GIF") and cut == "unidentified")


@pytest.mark.parametrize(
    "content", [b"not an image" * 50, b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\0" * 100, b"\xff\xd8\xff", b"BM", b"a"]
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    assert reason(content) == "unidentified"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_content_tells_the_format_and_the_header_the_facts(kind: str) -> None:
    facts = inspect_image(encoded(PICTURE, kind))[1]
    assert facts == module.Facts(kind, 128, 96, "P" if kind == "GIF" else "RGB", 1)


@pytest.mark.parametrize("kind", [2, 7, 12])
def test_a_tiff_whose_table_is_nonsense_is_refused(kind: int) -> None:
    content = bytearray(encoded(PICTURE, "TIFF"))
    (table,) = struct.unpack_from("<I", content, 4)
    entries = range(table + 2, table + 2 + 12 * struct.unpack_from("<H", content, table)[0], 12)
    (offsets,) = (entry for entry in entries if struct.unpack_from("<H", content, entry)[0] == 0x0111)
    struct.pack_into("<H", content, offsets + 2, kind)  # where the pixels are: given as text, bytes or a fraction
    assert reason(bytes(content)) in ("unidentified", "truncated")


# 6: pixels that are no numbers


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(bad: float) -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert decode(encoded(Image.fromarray(values), "TIFF")).max() == 255
    values[3, 5] = bad
    assert refused(encoded(Image.fromarray(values), "TIFF")).args == ("not_finite", "1 pixels are no finite numbers")


# 8: nothing but pixels comes out


def test_nothing_but_pixels_comes_out() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})  # GPS
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        content = encoded(PICTURE, kind, exif=exif, comment=b"a secret comment", icc_profile=b"a secret profile")
        assert b"secret" in content
        image = inspect_image(content)[0]
        assert type(image) is Image.Image and image.info == {} and not image.getexif()
        assert not any(b"secret" in encoded(image, again) for again in FORMATS)


# 9: bombs


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    bombs = {
        "black.png": encoded(Image.new("1", (20000, 20000))),
        "warned.png": encoded(Image.new("1", (12000, 12000))),  # 144 million: Pillow only warns
        "small.png": encoded(Image.new("1", (8000, 8000))),  # 64 million: Pillow has nothing to say
        "canvas.webp": webp_of(12000, 12000),
        "huge.webp": webp_of(16384, 16384),
        "screen.gif": gif_of(65535, 65535),
        "smaller.gif": gif_of(12000, 12000),
        "zip.tiff": tiff(64, (40000, 40000), 8),
        "lzw.tiff": tiff(64, (65536, 16384), 5),
    }
    assert 40_000 < len(bombs["black.png"]) < 60_000
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
    # In a process of its own, for the peak of this one's memory is of other tests.
    script = """if True:
        import json, pathlib, sys, time, warnings
        from fairsynth.data.decode import BadImage, decode
        warnings.simplefilter("ignore")
        peak = lambda: int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
        answers = {}
        for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
            content, before, began = path.read_bytes(), peak(), time.process_time()
            try:
                decode(content)
                answers[path.name] = "decoded", 0, 0
            except BadImage as bad:
                answers[path.name] = bad.reason, peak() - before, time.process_time() - began
        print(json.dumps(answers))
    """
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    answers = json.loads(run.stdout)
    assert {name: answer[0] for name, answer in answers.items()} == dict.fromkeys(bombs, "too_large")
    assert max(answer[1] for answer in answers.values()) < 30, "megabytes"
    assert max(answer[2] for answer in answers.values()) < 0.5, "seconds; the first one also loads Pillow's parts"


def test_the_limit_of_pixels_is_ours_and_is_named() -> None:
    content = encoded(PICTURE)
    assert decode(content, rules=ImageRules(max_pixels=96 * 128)).shape == NOISE.shape
    detail = refused(content, ImageRules(max_pixels=96 * 128 - 1)).detail
    assert detail == "128 x 96, 12,288 pixels to decode; the limit is 12,287"
    assert "50,000,000" in refused(encoded(Image.new("1", (20000, 20000)))).detail


def test_a_frame_larger_than_the_screen_counts() -> None:
    content = bytearray(encoded(FRAMES[0], "GIF"))
    frame = content.index(b",\0\0\0\0\x08\0\x08\0")
    content[frame + 5 : frame + 9] = struct.pack("<HH", 60000, 60000)
    assert reason(bytes(content)) == "too_large"


# 10: several frames


@pytest.mark.parametrize(("kind", "counted"), [("GIF", 2), ("TIFF", 2), ("PNG", 3), ("WEBP", 3)])
def test_several_frames_are_told_and_refused_on_request(kind: str, counted: int) -> None:
    refuse, keep = ImageRules(frames="refuse", constant="keep"), ImageRules(constant="keep")
    content = encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:])
    assert inspect_image(content, keep)[1].frames == counted
    assert reason(content, refuse) == "several_frames"
    assert inspect_image(encoded(FRAMES[0], kind), refuse)[1].frames == 1


def test_frames_are_not_counted_where_that_takes_long() -> None:
    two = encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:2], duration=50)
    first = two.index(b"!\xf9")
    second = two.index(b"!\xf9", first + 1)
    content = two[:second] + two[second:-1] * 200_000 + b";"
    assert len(content) > 5_000_000
    began = time.process_time()
    assert inspect_image(content, ImageRules(constant="keep"))[1].frames == 2
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize("tail", [b"!", b"!\xf9", b",", b",\0\0\0\0", b"garbage", b""])
def test_what_follows_the_first_frame_of_a_gif_may_be_damaged(tail: bytes) -> None:
    still = encoded(PICTURE, "GIF")
    content = still[:-1] + tail
    assert np.array_equal(decode(content), decode(still))
    assert inspect_image(content)[1].frames in (1, 2)


def test_the_second_page_of_a_tiff_may_lie_outside_the_file() -> None:
    content = bytearray(encoded(PICTURE, "TIFF"))
    (table,) = struct.unpack_from("<I", content, 4)
    after = table + 2 + 12 * struct.unpack_from("<H", content, table)[0]
    struct.pack_into("<I", content, after, 0x7FFFFFFF)
    image, facts = inspect_image(bytes(content))
    assert np.array_equal(np.asarray(image), NOISE) and facts.frames == 2


def test_a_photograph_with_a_preview_behind_it_is_one_picture() -> None:
    content = encoded(PICTURE, "MPO", save_all=True, append_images=[Image.fromarray(255 - NOISE)])
    image, facts = inspect_image(content, ImageRules(frames="refuse"))
    assert (facts.format, facts.frames) == ("JPEG", 1)
    assert np.array_equal(np.asarray(image), decode(encoded(PICTURE, "JPEG")))


# 11: formats that are not allowed


MAGIC: list[tuple[str, bytes]] = [
    ("FITS", b"SIMPLE  =                    T"), ("PDF", b"%PDF-1.4 "), ("PSD", b"8BPS\0\1\0\0\0\0\0\0\0\3"),
    ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n"), ("PostScript", b"\xc5\xd0\xd3\xc6\x20\0\0\0"),
    ("SVG or other XML", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), ("HTML", b"<!DOCTYPE html><html>404"),
    ("SVG or other XML", b"\xef\xbb\xbf \n<?xml version='1.0'?><svg/>"),
    ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), ("AVIF", b"\0\0\0\x20ftypavif\0\0\0\0avifmif1"),
    ("CR3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"), ("ISO media (MP4)", b"\0\0\0\x20ftypisom\0\0\2\0"),
    ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 "), ("JPEG 2000", b"\xff\x4f\xff\x51\0\x2f"),
    ("JPEG XL", b"\xff\x0a\xfa\x1f"), ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n"), ("JPEG XR", b"II\xbc\1\x08\0\0\0"),
    ("ICO", b"\0\0\1\0\1\0\x10\x10"), ("ICNS", b"icns\0\0\1\0"), ("PPM", b"P6\n2 2\n255\n"), ("QOI", b"qoif\0\0\0\1"),
    ("DDS", b"DDS |\0\0\0"), ("XCF", b"gimp xcf v011\0"), ("OpenEXR", b"v/1\x01\2\0\0\0"), ("Radiance", b"#?RADIANCE\n"),
    ("SGI", b"\x01\xda\1\1"), ("PCX", b"\n\5\1\x08"), ("DjVu", b"AT&TFORM\0\0"), ("MNG", b"\x8aMNG\r\n\x1a\n"),
    ("WMF", b"\xd7\xcd\xc6\x9a\0\0"), ("AVI or WAV", b"RIFF\0\0\1\0AVI LIST"), ("DICOM", bytes(128) + b"DICM"),
    ("TGA", bytes(2) + b"\2" + bytes(60) + b"TRUEVISION-XFILE.\0"), ("HDF5", b"\x89HDF\r\n\x1a\n"),
    ("NumPy", b"\x93NUMPY\1\0"), ("Microsoft Office", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), ("ZIP", b"PK\3\4\x14\0"),
    ("gzip", b"\x1f\x8b\x08\0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), MAGIC)
def test_other_formats_are_named_by_their_first_bytes(name: str, content: bytes) -> None:
    bad = refused(content)
    assert bad.reason == "format" and bad.detail == f"{name}; allowed are JPEG, PNG, WEBP, BMP, TIFF, GIF"


@pytest.mark.parametrize("kind", ["PPM", "TGA", "ICO", "EPS", "PDF", "JPEG2000", "AVIF", "SGI", "PCX", "DDS", "ICNS"])
def test_no_other_parser_of_pillow_sees_a_file(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(PICTURE.resize((64, 64)), kind)
    asked: list[str] = []
    Image.init()
    for name in set(Image.OPEN) - set(FORMATS):
        monkeypatch.setitem(Image.OPEN, name, (asked.append, lambda _, name=name: asked.append(name)))
    assert reason(content) == "format" and reason(b"no image") == "unidentified" and not asked


# 12 and 13: too small, too long, nothing to see


def test_small_and_long_images_are_refused_by_the_limits_named() -> None:
    assert refused(encoded(PICTURE.resize((40, 7)))).args == (
        "too_small",
        "40 x 7; the shorter side must have at least 8",
    )
    assert decode(encoded(PICTURE.resize((160, 8)))).shape == (8, 160, 3)
    assert refused(encoded(PICTURE.resize((8, 168)))).args == ("aspect", "8 x 168 = 21.0 to 1; the limit is 20 to 1")
    assert reason(encoded(PICTURE), ImageRules(min_side=97)) == "too_small"
    assert reason(encoded(PICTURE), ImageRules(max_aspect=1.3)) == "aspect"
    assert decode(encoded(PICTURE), rules=ImageRules(min_side=96, max_aspect=1.34)).shape == NOISE.shape


def test_an_image_of_one_colour_is_refused_unless_it_is_kept() -> None:
    for colour in ((0, 0, 0), (255, 255, 255), (12, 200, 7)):
        bad = refused(encoded(Image.new("RGB", (16, 16), colour)))
        assert bad.args == ("low_information", f"all pixels within 2 levels of the colour {colour}")
    assert reason(encoded(Image.new("RGBA", (16, 16), (1, 2, 3, 0)))) == "low_information"
    kept = decode(encoded(Image.new("L", (16, 16), 9)), rules=ImageRules(constant="keep"))
    assert np.array_equal(kept, np.full((16, 16, 3), 9))


@pytest.mark.parametrize("where", [(0, 0), (8, 8), (15, 3)])
@pytest.mark.parametrize("channel", range(3))
def test_one_pixel_more_than_two_levels_apart_is_enough(where: tuple[int, int], channel: int) -> None:
    pixels = np.full((16, 16, 3), (100, 150, 200), np.uint8)
    pixels[(*where, channel)] -= 2
    assert reason(encoded(Image.fromarray(pixels))) == "low_information"
    pixels[(*where, channel)] -= 1
    assert np.array_equal(decode(encoded(Image.fromarray(pixels))), pixels)


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
    for kind in ("JPEG", "PNG", "WEBP"):
        assert np.array_equal(decode(encoded(PICTURE, kind, exif=exif)), decode(encoded(PICTURE, kind)))
    photo = encoded(PICTURE, "JPEG")
    preview = b"MPF\0II*\0\x08\0\0\0" + exif[6:]
    marked = photo[:2] + b"\xff\xe2" + struct.pack(">H", len(preview) + 2) + preview + photo[2:]
    assert np.array_equal(decode(marked), decode(photo))


SEEDS = [
    *(encoded(PICTURE.resize((24, 16)), kind) for kind in FORMATS),
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
            *("empty", "format", "unidentified", "too_large", "several_frames"),
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
