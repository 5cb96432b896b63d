"""Where Ray Train and Ray Tune keep their own files: beside a stage's units, on the disk or in the bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairsynth.store.address import Address
from fairsynth.store.mirror import place_of


def storage_of(path: Path) -> dict[str, Any]:
    """What Ray's RunConfig takes: ``storage_path``, and for a bucket ``storage_filesystem`` (pyarrow's)."""
    place = place_of(path)
    if place is None:
        return {"storage_path": str(path)}
    from pyarrow.fs import FileSystem

    mirror, key = place
    address = Address.parse(mirror.uri)
    endpoint = address.endpoint()
    if endpoint and not address.option("endpoint_override"):
        scheme, _, host = endpoint.partition("://")
        address = Address(address.scheme, address.bucket, address.prefix, (*address.options, ("endpoint_override", host), ("scheme", scheme)))  # fmt: skip
    filesystem, base = FileSystem.from_uri(address.uri)
    return {"storage_path": f"{base.rstrip('/')}/{key}", "storage_filesystem": filesystem}
