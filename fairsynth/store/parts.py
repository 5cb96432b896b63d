"""Large files, which go in parts: no more than a store takes, and with the time that they need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# Bytes of a part at least, as which a smaller file goes whole; of those that are on their way together; and of what is read
# of a file at once.
PART, _TOGETHER, _PIECE = 8 * 2**20, 256 * 2**20, 2**20
# A store takes 10,000; a file may grow while it is sent.
_MOST_PARTS = 9000
_SIDE_BY_SIDE = 4


class Source:
    """A file on its way, whoever asks for it again from the start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = part_size(path.stat().st_size)
        # An upload holds them in memory.
        self.side_by_side = max(1, min(_SIDE_BY_SIDE, _TOGETHER // self.part))
        self._furthest = 0

    def pieces(self) -> Iterator[bytes]:
        """All of the file."""
        with open(self.path, "rb") as file:
            while piece := file.read(_PIECE):
                self._furthest = max(self._furthest, file.tell())
                yield piece

    def furthest(self) -> int:
        """Bytes that any attempt has come to send."""
        return self._furthest


def part_size(size: int) -> int:
    """Bytes of a part of a file of so many bytes: whole MiB."""
    return max(PART, -(-size // (_MOST_PARTS * 2**20)) * 2**20)
