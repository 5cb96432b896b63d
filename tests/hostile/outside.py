"""A folder that is none of a command's business, with an eye on it: the kernel tells every opening of a file in it (inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from tests.hostile.cases import CANARY, HEADER, an_image
from tests.support.data.dataset_files import put
from tests.support.datasets import tree

_OPENED, _MOVED, _MADE = 0x20 | 0x1 | 0x2, 0x40 | 0x80, 0x100 | 0x200
_FOLDER = 0x40000000


class Outside:
    """``root``: the folder. ``touched()``: what was opened, made, moved or changed in it since the last time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        put(root / "secret.png", an_image(77))
        put(root / "secret.csv", HEADER + f"{CANARY}.png,train,{CANARY},{CANARY}\n")
        put(root / "secret.txt", CANARY + "\n")
        put(root / "secret.yaml", f"seed: {CANARY}\n")
        put(root / "folder" / "inner.png", an_image(78))
        (root / "ran").mkdir()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._eye = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._eye >= 0, "no inotify here"
        self._names = {}
        for folder in (root, root / "folder", root / "ran"):
            watch = self._libc.inotify_add_watch(self._eye, os.fsencode(folder), _OPENED | _MOVED | _MADE)
            self._names[watch] = folder
        self._before = tree(root)
        self._events()

    def touched(self) -> list[str]:
        """What happened, in words; afterwards all counts as seen."""
        events, now = self._events(), tree(self.root)
        if now != self._before:
            events.append("the content has changed")
        self._before = now
        self._events()
        return events

    def _events(self) -> list[str]:
        found = []
        while True:
            try:
                raw, at = os.read(self._eye, 1 << 16), 0
            except BlockingIOError:
                return found
            while at < len(raw):
                watch, mask, _, length = struct.unpack_from("iIII", raw, at)
                name = raw[at + 16 : at + 16 + length].rstrip(b"\0").decode("utf-8", "replace")
                found.append(f"{mask:#x} {self._names.get(watch)}/{name}")
                at += 16 + length

    def __enter__(self) -> Outside:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._eye)
