"""A place in a bucket as pyarrow's file systems have it: for Ray Train and Ray Tune, which keep files of their own there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from fairsynth.store.address import Address
from fairsynth.store.mirror import place_of


def storage_of(path: Path) -> dict[str, Any]:
    """What Ray's RunConfig takes: ``storage_path``, and for a bucket ``storage_filesystem``."""
    place = place_of(path)
    if place is None:
        return {"storage_path": str(path)}
    filesystem, name = _there(place[0].uri, place[1])
    return {"storage_path": name, "storage_filesystem": filesystem}


def forget_storage(path: Path) -> None:
    """Remove what Ray kept there: its folders are objects whose names end with a slash, which only pyarrow sees."""
    if place := place_of(path):
        place[0].check()
        filesystem, name = _there(place[0].uri, place[1])
        with suppress(OSError):
            filesystem.delete_dir(name)


def _there(uri: str, key: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    address = Address.parse(uri)
    endpoint = address.endpoint()
    options = dict(address.options)
    if endpoint and "endpoint_override" not in options:  # pyarrow does not look into the environment for it
        options["scheme"], _, options["endpoint_override"] = endpoint.partition("://")
    filesystem, base = FileSystem.from_uri(
        Address(address.scheme, address.bucket, address.prefix, tuple(options.items())).uri
    )
    return filesystem, f"{base.rstrip('/')}/{key}"
