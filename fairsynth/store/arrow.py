"""Buckets as pyarrow's file systems have them: datasets, and what Ray Train and Ray Tune keep of their own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from fairsynth.store.address import Address
from fairsynth.store.mirror import place_of

# Of a request, with growing pauses between them: some ten seconds in all. Not by AWS's "standard" rule, which gives up for all
# requests once many have failed.
_ATTEMPTS = 10


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


def patient(filesystem: Any) -> Any:
    """The same file system, and an S3 store that refuses for a while is asked for longer than the usual three times.

    One that has travelled to another process has forgotten that.
    """
    from pyarrow.fs import AwsDefaultS3RetryStrategy, S3FileSystem

    if not isinstance(filesystem, S3FileSystem):
        return filesystem
    rebuild, (options,) = filesystem.__reduce__()
    return rebuild({**options, "retry_strategy": AwsDefaultS3RetryStrategy(max_attempts=_ATTEMPTS)})


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
