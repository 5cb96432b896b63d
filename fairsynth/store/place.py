"""The output of a run, as people name it: a folder, or a bucket's address."""

from __future__ import annotations

import json
import uuid
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import printable
from fairsynth.store.address import Address, is_bucket
from fairsynth.store.mirror import Mirror, mirrored, require_cache

if TYPE_CHECKING:  # it imports obstore
    from fairsynth.store.objects import Objects

# What an output in a bucket is known by.
MARK = "fairsynth.json"
_KNOWN: dict[str, Mirror] = {}


def output_root(text: str) -> Path:
    """The root of an output: a folder's path, or a place in this node's copy of a bucket.

    Raises ConfigError for an address that is none, InfrastructureError if the bucket does not answer.
    """
    if not is_bucket(text):
        return Path(text).expanduser().resolve()
    address = Address.parse(text)
    mirror = _KNOWN.get(address.uri)
    if mirror is None:
        from fairsynth.store.objects import Objects

        require_cache()
        # An output that is not there yet gets its mark with the first run; until then nothing is looked for in the copy.
        run = marked(Objects(address)) or uuid.uuid4().hex
        mirror = _KNOWN[address.uri] = mirrored(address.uri, run)
    return mirror.root


def marked(objects: Objects) -> str:
    """The name of the output that lies in a bucket; empty: none does. Raises DataError for a mark that is none."""
    content = objects.read(MARK)
    if content is None:
        return ""
    try:
        return str(json.loads(content)["run"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{objects.name(MARK)} is not fairsynth's; give another prefix with --out") from None


def mark(mirror: Mirror) -> None:
    """Claim the place for this output. Raises ConfigError if other objects lie there, or another output came."""
    objects, mine = mirror.objects, json.dumps({"schema": 1, "run": mirror.run})
    found = check_prefix(mirror)
    if not found:
        objects.create(MARK, mine.encode())
        found = marked(objects)
    if found != mirror.run:
        _KNOWN.pop(mirror.uri, None)
        raise ConfigError(f"another run has begun in {objects.name('')} meanwhile; give the same command again")


def check_prefix(mirror: Mirror) -> str:
    """The name of the output there; empty: none. Raises ConfigError if other objects lie there; nothing is written."""
    objects = mirror.objects
    found = marked(objects)
    if not found:
        others = [
            entry.key for entry in islice(objects.walk(), 5) if not entry.key.startswith(("lease", ".fairsynth-probe-"))
        ]
        if others:
            raise ConfigError(
                f"{objects.name('')} holds other objects ({printable(others[0])}) and no run of fairsynth; give an empty prefix "
                "with --out"
            )
    return found
