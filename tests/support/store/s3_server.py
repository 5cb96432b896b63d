"""A real S3 service for tests: moto's, in an environment of its own, made once for each version of its requirements.

``make test`` makes the environment beforehand (``python -m tests.support.store.s3_server``); a test that needs it makes it, too, and
fails where that is not possible.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "s3_server.txt"
# Any will do: the service looks at none.
KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "of-no-use-elsewhere"}


class Bucket(NamedTuple):
    """An empty bucket of a service at ``endpoint`` (a URL)."""

    endpoint: str
    name: str

    def uri(self, prefix: str = "out", endpoint: str = "") -> str:
        """The address of a prefix, for --out and for pyarrow; by way of another endpoint if one is given."""
        host = (endpoint or self.endpoint).removeprefix("http://")
        return f"s3://{self.name}/{prefix}?endpoint_override={host}&scheme=http&region=us-east-1"


def python() -> Path:
    """The Python of the environment that has moto, which is made if it is not there: by pip, from its usual index."""
    pinned = [line for line in REQUIREMENTS.read_text("utf-8").splitlines() if not line.startswith("#")]
    version = hashlib.sha256("\n".join(pinned).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairsynth"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"s3-server-{version}-{sys.version_info.major}.{sys.version_info.minor}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            venv.create(folder, clear=True, with_pip=True)
            words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
            subprocess.run([str(folder / "bin/python"), *words], check=True, timeout=600)
            (folder / "complete").touch()
    return folder / "bin/python"


@contextmanager
def serving() -> Iterator[str]:
    """The service in a process of its own; gives its URL."""
    command = [str(python()), str(HERE / "moto_server.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, "moto's server did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def new_bucket(endpoint: str) -> Bucket:
    """A bucket that nobody else has."""
    bucket = Bucket(endpoint, f"bucket-{secrets.token_hex(6)}")
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{bucket.name}", method="PUT"), timeout=20).close()
    return bucket


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 service that lives as long as the tests."""
    with serving() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket; the environment has keys for it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return new_bucket(s3_server)


if __name__ == "__main__":
    python()
