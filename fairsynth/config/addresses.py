"""Addresses of datasets (s3://...), and those that must never be shown because they may hold a secret."""

from __future__ import annotations

import re
from urllib.parse import unquote

from fairsynth.errors import DataError

# What begins like an address: any scheme with two slashes, and those that people use with a slash too few or too many.
_ADDRESS = re.compile(
    r"\s*([a-z][a-z0-9+.-]*(?=://)|(?:s3a?|gs|gcs|https?|hdfs|abfss?|az|wasbs?|file)(?=:)):(/*)(.*)",
    re.DOTALL | re.IGNORECASE,
)
# What pyarrow takes from an address and is no secret.
_PARAMETERS = (
    "region", "scheme", "endpoint_override", "anonymous", "project_id", "retry_limit_seconds", "allow_bucket_creation",
    "allow_bucket_deletion", "force_virtual_addressing", "default_bucket_location", "tls_ca_file_path",
)  # fmt: skip


def check_address(root: str) -> None:
    """Raise DataError, without showing it, for an address that may hold a secret, or has not two slashes."""
    whole = _ADDRESS.match(root)
    if whole is None:
        return
    scheme, slashes, rest = whole.groups()
    place, _, parameters = rest.partition("?")
    # A secret may hold a slash, so what is before the first one need not have the @.
    if re.search("[@:]", place.split("/", 1)[0]) or ("@" in place and len(slashes) != 2):
        raise DataError(
            f"data.root holds a user name or password ({scheme}://...@...); give the plain bucket, and the access keys "
            "by the environment, a role or a credentials file"
        )
    if len(slashes) < 2:
        raise DataError(
            f"data.root begins with {scheme}:{slashes[:3]}; an address has two slashes: {scheme}://BUCKET/FOLDER"
        )
    names = [parameter.partition("=")[0] for parameter in parameters.split("&")] if parameters else []
    if any(name not in _PARAMETERS for name in names) or "@" in unquote(parameters) or "#" in rest:
        raise DataError(
            f"data.root has parameters that may hold a secret ({scheme}://...?...); allowed are {', '.join(_PARAMETERS)}, without "
            "user, password or #; give access keys by the environment, a role or a credentials file"
        )
