"""Files that say less than they hold: bombs are refused by their header, frames are counted but not decoded."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairsynth.config import ImageRules
from fairsynth.data.decode import decode, inspect_image
from tests.support.data.pictures import FRAMES, NOISE, PICTURE, reason, refused
from tests.support.datasets import encoded


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


# Fault case 9: bombs


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


# Fault case 10: several frames


@pytest.mark.parametrize(("format", "counted"), [("GIF", 2), ("TIFF", 2), ("PNG", 3), ("WEBP", 3)])
def test_several_frames_are_told_and_refused_on_request(format: str, counted: int) -> None:
    refuse, keep = ImageRules(frames="refuse", constant="keep"), ImageRules(constant="keep")
    content = encoded(FRAMES[0], format, save_all=True, append_images=FRAMES[1:])
    assert inspect_image(content, keep)[1].frames == counted
    assert reason(content, refuse) == "several_frames"
    assert inspect_image(encoded(FRAMES[0], format), refuse)[1].frames == 1


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
