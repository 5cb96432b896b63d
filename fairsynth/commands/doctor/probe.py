"""A place in the output, made for the time of the checks, where this machine and the nodes leave notes for each other."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairsynth.errors import FairsynthError
from fairsynth.store.address import Address, is_bucket

PROBE = ".fairsynth-doctor-"
_PATIENCE = 20.0


@contextmanager
def probe_in(base: Path | Address) -> Iterator[str]:
    """A new place below a folder or an address; gone at the end. Raises OSError if it cannot be made."""
    if isinstance(base, Path):
        with tempfile.TemporaryDirectory(prefix=PROBE, dir=base) as folder:
            yield folder
        return
    from fairsynth.store.objects import Objects

    place = base.below(f"{PROBE}{secrets.token_hex(8)}")
    try:
        yield place.uri
    finally:
        with suppress(FairsynthError):
            objects = Objects(place, _PATIENCE)
            objects.delete([entry.key for entry in objects.walk()])


def leave(probe: str, name: str, text: str) -> None:
    """Write a note. Raises OSError or FairsynthError if it cannot be written."""
    if is_bucket(probe):
        from fairsynth.store.objects import Objects

        Objects.at(probe, _PATIENCE).write(name, text.encode())
    else:
        (Path(probe) / name).write_text(text, "utf-8")


def note(probe: str, name: str) -> str:
    """A note's text; empty if it is not there. Raises as ``leave`` does."""
    if is_bucket(probe):
        from fairsynth.store.objects import Objects

        return (Objects.at(probe, _PATIENCE).read(name) or b"").decode()
    return (Path(probe) / name).read_text("utf-8")


def notes(probe: str) -> list[str]:
    """The names of all notes."""
    if is_bucket(probe):
        from fairsynth.store.objects import Objects

        return Objects.at(probe, _PATIENCE).names("")
    return os.listdir(probe)
