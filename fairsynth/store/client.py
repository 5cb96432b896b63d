"""obstore's client for an address: its service, its region, its keys, and how long one request may take."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from obstore.store import GCSStore, S3Store

from fairsynth.errors import ConfigError
from fairsynth.store.address import Address
from fairsynth.store.parts import PART

# Seconds: to connect, of silence in an answer, and for a request as a whole. A download has no limit as a whole: it may be
# of any size.
_CONNECT, _SILENCE, _REQUEST = 3, 30, 90
_ANY_TIME = 30 * 86_400
# obstore's own attempts are few and quick: they are for parts of an upload and pages of a listing. What fails for longer
# is tried again in fairsynth.store.attempts, where Ctrl-C is heard between attempts.
_QUICK_RETRIES = 3
# A large upload would begin anew, so its parts get more of them: for half a minute, if the store refuses at once.
_PART_RETRIES, _PART_PAUSE = 10, 8
# Where else keys come from, so that a profile's are not put in their place.
_OTHER_KEYS = (
    *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)


def client(address: Address, patience: float, part: int = 0, is_download: bool = False) -> S3Store | GCSStore:
    """A client whose requests end, one by one, within about ``patience`` seconds; those of downloads if nothing comes.

    ``part``: bytes of a part of what is uploaded, 0 if nothing large is: larger ones have more time.
    Keys come from the environment, a role, or the profile of ~/.aws (``AWS_PROFILE``), and for Google from its
    application default credentials. Raises ConfigError: an endpoint with a password, a certificate that is not there.
    """
    quick = min(_REQUEST, max(1.0, patience))
    # While a part is on its way there is no answer, and that is no silence.
    whole, silence = (quick * max(1, part / PART),) * 2 if part else (quick, min(_SILENCE, quick))
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=min(_CONNECT, quick)),
        "read_timeout": timedelta(seconds=silence),
        "timeout": timedelta(seconds=_ANY_TIME if is_download else whole),
    }
    if certificate := os.environ.get("AWS_CA_BUNDLE"):
        options["root_certificate"] = _certificates(certificate)
    retries: Any = {
        "max_retries": _PART_RETRIES if part else _QUICK_RETRIES,
        "retry_timeout": timedelta(seconds=whole + patience / 2 if part else quick / 2),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=min(_PART_PAUSE, max(1.0, patience / 10)) if part else 2),
            "base": 2,
        },
    }
    common: dict[str, Any] = {"prefix": address.prefix or None, "client_options": options, "retry_config": retries}
    endpoint = address.endpoint()
    options["allow_http"] = endpoint.startswith("http://")
    if address.scheme == "gs":
        common |= {"base_url": endpoint} if endpoint else {}
        return GCSStore(address.bucket, **common)
    return S3Store(address.bucket, **common, **_s3(address, endpoint))


def _s3(address: Address, endpoint: str) -> dict[str, Any]:
    profile = _profile(os.environ)
    found: dict[str, Any] = {"region": region(address, profile)}
    if address.option("force_virtual_addressing").lower() in ("true", "1"):
        found["virtual_hosted_style_request"] = True
        endpoint = endpoint.replace("://", f"://{address.bucket}.", 1)
    if endpoint:
        found["endpoint"] = endpoint
    if not any(os.environ.get(name) for name in _OTHER_KEYS) and profile.get("aws_access_key_id"):
        found["access_key_id"] = profile["aws_access_key_id"]
        found["secret_access_key"] = profile.get("aws_secret_access_key", "")
        if token := profile.get("aws_session_token"):
            found["session_token"] = token
    return found


def region(address: Address, profile: Mapping[str, str]) -> str:
    """Of the address, the environment, the profile; else us-east-1."""
    environment = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return address.option("region") or environment or profile.get("region") or "us-east-1"


def _profile(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of AWS's two files for the chosen profile. Keys that a program makes (SSO) are not among them."""
    name = environment.get("AWS_PROFILE") or "default"
    found: dict[str, str] = {}
    for variable, path, section in (
        ("AWS_CONFIG_FILE", "~/.aws/config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name),
    ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(Path(environment.get(variable) or path).expanduser(), "utf-8")
        except (configparser.Error, UnicodeDecodeError, RuntimeError):  # whose file it is says what is wrong with it
            continue
        if parser.has_section(section):
            found |= dict(parser.items(section))
    return found


def _certificates(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"AWS_CA_BUNDLE names a file that cannot be read: {error.strerror}; set it to the certificates, or unset it"
        ) from None
