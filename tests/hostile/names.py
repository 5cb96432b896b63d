"""Names and links that lead elsewhere or hold odd characters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.hostile.cases import INGEST, INIT, PLAN, Case, Place, an_image, good, refused, with_rows
from tests.support.data.dataset_files import put

# A name in the table, which must not be read; {outside} is an absolute path.
_ESCAPES = {
    "parent": "../outside/secret.png",
    "parents": "../../outside/secret.png",
    "parent in the middle": "train/../../../outside/secret.png",
    "absolute": "{outside}/secret.png",
    "two slashes": "/{outside}/secret.png",
    "file URL": "file://{outside}/secret.png",
    "file URL, one slash": "file:{outside}/secret.png",
    "web": "http://127.0.0.1:9/x.png",
    "bucket": "s3://bucket/x.png",
    "drive": "C:\\Windows\\x.png",
    "UNC": "\\\\host\\share\\x.png",
    "backslashes": "..\\..\\outside\\secret.png",
    "parent by %2e": "%2e%2e/%2e%2e/outside/secret.png",
    "home": "~/secret.png",
    "variable": "$HOME/secret.png",
    "NUL": "train/0000.png\0.txt",
    "device": "/dev/zero",
    "own process": "/proc/self/environ",
    "location of a tar": "tar:0:100:{outside}/secret.png",
    "location in hex": "hex:2e2e2f736563726574",
    "5,000 characters": "a" * 5000,
    "2,000 folders": "a/" * 2000 + "x.png",
    "dots": ". . /.. /x.png",
    "command": "x.png; touch {outside}/ran/x #",
    "template": "{{7*7}}${{7*7}}.png",
}
_STEERING = {
    "colours": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "clear screen": "\x1b[2J\x1b[H",
    "carriage return": "good\rbad",
    "right to left": "a\u202egnp.exe",
    "C1 codes": "a\x9b31mb",
    "backspaces": "good\b\b\b\bbad",
    "markup": "<script>alert(1)</script>",
    "formula": "=cmd|' /C calc'!A0",
}


def _row(name: str, place: Place) -> None:
    with_rows(place, f'"{name.format(outside=place.outside)}",train,cat,indoor\n')


def _value(value: str, place: Place) -> None:
    root = good(place)
    table = root / "metadata.csv"
    table.write_text(table.read_text("utf-8").replace("indoor", '"' + value + '"'), "utf-8", newline="")


def _link(make: Callable[[Place], Path], name: str, place: Place) -> None:
    with_rows(place, f"{name},train,cat,indoor\n")
    (place.data / name).parent.mkdir(parents=True, exist_ok=True)
    (place.data / name).symlink_to(make(place))


def _linked_folder(place: Place) -> None:
    with_rows(place, "in/inner.png,train,cat,indoor\n")
    (place.data / "in").symlink_to(place.outside / "folder")


def _twice(place: Place) -> None:
    with_rows(place, "a.png,train,cat,indoor\n")
    (place.data / "b.png").symlink_to(place.outside / "secret.png")
    (place.data / "a.png").symlink_to("b.png")


def _loop(place: Place) -> None:
    with_rows(place, "a.png,train,cat,indoor\n")
    (place.data / "a.png").symlink_to("b.png")
    (place.data / "b.png").symlink_to("a.png")


def _folder_loop(place: Place) -> None:
    good(place)
    for number in range(5):
        (place.data / f"loop{number}").symlink_to(place.data)
        (place.data / "train" / f"loop{number}").symlink_to("..")


def _pipe(place: Place) -> None:
    with_rows(place, "pipe.png,train,cat,indoor\n")
    os.mkfifo(place.data / "pipe.png")


def _table_linked(place: Place) -> None:
    good(place)
    (place.data / "metadata.csv").unlink()
    (place.data / "metadata.csv").symlink_to(place.outside / "secret.csv")


def _table_pipe(place: Place) -> None:
    good(place)
    (place.data / "metadata.csv").unlink()
    os.mkfifo(place.data / "metadata.csv")


def _by_class(name: bytes, place: Place) -> None:
    for label in (b"cat", name):
        for number in range(3):
            folder = os.path.join(os.fsencode(place.data), label, b"indoor")
            os.makedirs(folder, exist_ok=True)
            put(Path(os.fsdecode(os.path.join(folder, b"%d.png" % number))), an_image(number))


def cases() -> Iterator[Case]:
    """All of this kind."""
    for name, text in _ESCAPES.items():
        yield Case("names", name, partial(_row, text), INGEST if len(name) % 2 else PLAN, codes=refused(0, 2, 3))
    for name, text in _STEERING.items():
        yield Case("names", f"label with {name}", partial(_value, text))
    yield Case("names", "labels that steer, into a config", partial(_value, "\x1b]0;x\x07\r\u202e"), INIT)
    for target in ("secret.png", "secret.txt", "folder"):
        make = partial(lambda target, place: place.outside / target, target)
        yield Case("links", f"to {target} outside", partial(_link, make, "odd.png"), INGEST)
    for target in ("/dev/zero", "/dev/stdin", "/proc/self/mem", "/proc/kmsg"):
        yield Case("links", f"to {target}", partial(_link, partial(lambda t, _: Path(t), target), "odd.png"))
    links = {
        "folder outside": _linked_folder, "link to a link": _twice, "loop": _loop, "loops of folders": _folder_loop,
        "pipe as image": _pipe, "table outside": _table_linked, "pipe as table": _table_pipe,
    }  # fmt: skip
    for name, make_links in links.items():
        yield Case("links", name, make_links, INGEST)
    folders = {"controls": b"a\x1b[2Jb\r", "not UTF-8": b"\xff\xfe", "newline": b"a\nb", "255 bytes": b"x" * 255}
    for name, folder in folders.items():
        yield Case("names", f"folder: {name}", partial(_by_class, folder))
