"""The address of an output in a bucket, as people type it: ``s3://bucket/prefix?region=eu-west-1``.

The grammar is that of pyarrow's file systems, which read ``data.root`` and Ray's storage path: one text does for all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.watching.redaction import redacted

SCHEMES = ("s3", "gs")
# What pyarrow's options are called. Those that say how pyarrow works inside mean nothing here, and are let pass.
_FOR_BOTH = ("endpoint_override", "scheme")
_OPTIONS = {
    "s3": (
        *_FOR_BOTH,
        *("region", "force_virtual_addressing", "allow_bucket_creation", "allow_bucket_deletion"),
        *("allow_delayed_open", "background_writes", "check_directory_existence_before_creation"),
    ),
    "gs": (*_FOR_BOTH, "project_id", "default_bucket_location", "retry_limit_seconds"),
}
_WAY = "give s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, or a folder"
_KEYS = "give access keys by a role, the environment or a credentials file, and the plain address here"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]")
# What stands for itself in every address: neither spaces, nor % and #, which programs read differently.
_PART = re.compile(r"[A-Za-z0-9._~=+,-]{1,200}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}(?=:/)")
# A bucket's scheme without its slashes, or with a backslash: what follows is no drive and no folder.
_MISSPELT = re.compile(r"(?:s3[an]?|gs|gcs|az|abfss?|https?|hdfs|file):|(?:s3|gs)//", re.IGNORECASE)
_ENDPOINT = re.compile(r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?(?:/[A-Za-z0-9._/-]*)?")


@dataclass(frozen=True)
class Address:
    """A place in a bucket. ``prefix`` has no slash at its ends; ``options`` are those of the query, in their order."""

    scheme: str
    bucket: str
    prefix: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """From what people type. Raises ConfigError for anything that is not a plain address; no secret is repeated."""
        if not is_bucket(text):
            raise ConfigError(f"{_shown(text)} is a folder, not a bucket's address; {_WAY}")
        scheme, _, rest = text.partition("://")
        place, _, query = rest.partition("?")
        if re.search("[@:]", place):
            raise ConfigError(f"the output holds a user name or password ({scheme}://...@...); {_KEYS}")
        bucket, _, prefix = place.partition("/")
        if not bucket:
            raise ConfigError(f"the output {_shown(text)} names no bucket; {_WAY}")
        if not _BUCKET.fullmatch(bucket) or ".." in bucket:
            raise ConfigError(f"the output {_shown(text)} has no bucket's name after {scheme}://; {_WAY}")
        prefix = prefix.removesuffix("/")
        wrong = [part for part in prefix.split("/") if not _PART.fullmatch(part) or part in (".", "..")]
        if prefix and wrong:
            raise ConfigError(
                f"the output {_shown(text)} has a part that is empty, '.', '..' or holds other characters than "
                f"letters, digits and - . _ ~ = + ,; give a plain prefix: {scheme}://{bucket}/runs/NAME"
            )
        return cls(scheme, bucket, prefix, _options(scheme, query))

    @property
    def uri(self) -> str:
        """The whole address, options too: what ``parse`` takes, and pyarrow."""
        query = f"?{urlencode(self.options, safe=':/[]')}" if self.options else ""
        return f"{self}{query}"

    def __str__(self) -> str:
        """For people: without the options."""
        return "/".join((f"{self.scheme}://{self.bucket}", *([self.prefix] if self.prefix else [])))

    def below(self, part: str) -> Address:
        """A place inside this one."""
        return Address(self.scheme, self.bucket, "/".join(filter(None, (self.prefix, part))), self.options)

    def option(self, name: str) -> str:
        """An option's value; empty if it is not given."""
        return dict(self.options).get(name, "")

    def endpoint(self, environment: Mapping[str, str] = os.environ) -> str:
        """The URL of the service, where it is not the cloud's own; else empty.

        Raises ConfigError: a user name or password in it.
        """
        given = self.option("endpoint_override")
        if given and "://" not in given:
            given = f"{self.option('scheme') or 'https'}://{given}"
        if not given and self.scheme == "s3":
            given = environment.get("AWS_ENDPOINT_URL_S3", "") or environment.get("AWS_ENDPOINT_URL", "")
            if given and not _is_endpoint(given):
                raise ConfigError(
                    f"AWS_ENDPOINT_URL is not the plain URL of a service; set it to http(s)://HOST:PORT and {_KEYS}"
                )
        return given.rstrip("/")


def is_bucket(text: str) -> bool:
    """True for the address of a bucket, False for a folder's path.

    Raises ConfigError for what looks like an address and is none (``s3:/bucket/x``, ``S3://``, ``http://``), which would
    otherwise make a folder of that name.
    """
    if text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return True
    scheme = _SCHEME.match(text) or _MISSPELT.match(text)
    if scheme is None:
        return False
    name = scheme[0].rstrip(":/")
    meant = name.lower() if name.lower() in SCHEMES else ""
    hint = f"; is {meant}:// meant?" if meant else ""
    raise ConfigError(f"the output {_shown(text)} is no address that fairsynth can write to{hint}; {_WAY}")


def _options(scheme: str, query: str) -> tuple[tuple[str, str], ...]:
    try:
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=20)
    except ValueError:
        raise ConfigError(
            f"the output's options are not of the form ?name=value&name=value; allowed: {', '.join(_OPTIONS[scheme])}"
        ) from None
    for name, value in options:
        if name not in _OPTIONS[scheme]:
            known = f" {name}" if re.fullmatch("[a-z_]{1,40}", name) and redacted(name) == name else ""
            raise ConfigError(
                f"the output has an unknown option{known}; allowed: {', '.join(_OPTIONS[scheme])}; {_KEYS}"
            )
        if name == "endpoint_override" and not _is_endpoint(value):
            raise ConfigError(f"the output's endpoint_override is not HOST:PORT or http(s)://HOST:PORT; {_KEYS}")
        if name == "scheme" and value not in ("http", "https"):
            raise ConfigError("the output's option scheme is neither http nor https; give scheme=https")
        if not re.fullmatch(r"[A-Za-z0-9._:/\[\]-]{1,200}", value):
            raise ConfigError(f"the output's option {name} has no value that it can have; give a plain word")
    if len({name for name, _ in options}) < len(options):
        raise ConfigError("the output has an option twice; give each of its options once")
    return tuple(options)


def _is_endpoint(value: str) -> bool:
    parts = urlsplit(value) if "://" in value else urlsplit(f"https://{value}")
    return parts.scheme in ("http", "https") and bool(_ENDPOINT.fullmatch(value.partition("://")[2] or value))


def _shown(text: str) -> str:
    """A text for a message: without its options, and without what may be a user name or password."""
    place = text.partition("?")[0]
    scheme, colon, rest = place.partition(":")
    hidden = f"{scheme}:...@{rest.rpartition('@')[2]}" if "@" in rest else place
    if ":" in hidden.removeprefix(scheme + colon):
        hidden = f"{scheme}:..."
    return repr(printable(redacted(hidden))[:120])
