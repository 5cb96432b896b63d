"""How far adapters in training are, in small files beside their lots' checkpoints.

They are for people who watch a run; no training reads them, and none fails where one cannot be written.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from fairsynth.errors import FairsynthError
from fairsynth.store.mirror import gone, names_in, newest, place_of, sent

_SUFFIX = ".steps.json"
# Seconds between two writes of a file; where it also goes to a bucket.
EVERY, EVERY_SENT = 1.0, 10.0
# Of an adapter without a unit: what is trained and not committed is not done.
_MOST = 0.99


class StepFile:
    """The file of one lot, beside its ``checkpoint``."""

    def __init__(self, checkpoint: Path) -> None:
        self.path, self.next = checkpoint.with_name(checkpoint.stem + _SUFFIX), 0.0

    def __call__(self, shares: Mapping[str, float]) -> None:
        """Write the share of its steps that each adapter in training has done, if a second has gone by."""
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + (EVERY_SENT if place_of(self.path) else EVERY)
        temporary = self.path.with_name(f".{self.path.name}.new")
        with suppress(OSError, FairsynthError):
            temporary.write_text(json.dumps({name: round(share, 4) for name, share in shares.items()}), "utf-8")
            os.replace(temporary, self.path)
            sent(self.path)

    def remove(self) -> None:
        """The lot has ended."""
        with suppress(OSError, FairsynthError):
            gone(self.path)


def under_way(folder: Path, names: Collection[str]) -> float:
    """What is done of these adapters, none of which has ended, in adapters: 2.5 may be five that are half done."""
    shares = dict[str, float]()
    for file in (name for name in names_in(folder) if name.endswith(_SUFFIX)):
        # It may be gone, or of a lot that was cut otherwise and begun before.
        with suppress(OSError, ValueError, AttributeError, TypeError):
            for name, share in json.loads(newest(folder / file).read_text("utf-8")).items():
                if name in names:
                    shares[name] = max(shares.get(name, 0.0), min(_MOST, max(0.0, float(share))))
    return sum(shares.values())
