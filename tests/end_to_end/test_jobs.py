"""The pipeline as a Ray job: local head with dashboard and token authentication."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import small_arguments

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).parent / "ray")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    """Wait until something answers, with or without a welcome."""
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version")
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert time.monotonic() < deadline, "the head never answered"
            time.sleep(1)


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A head node with a dashboard on 127.0.0.1 that demands a token; yields its address."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    short = tempfile.mkdtemp(prefix="fs")  # a socket path must stay under 108 characters
    gcs, dashboard = _free_port(), _free_port()
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # the job says "python"
    environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    command = [
        RAY,
        "start",
        "--head",
        "--block",
        f"--port={gcs}",
        f"--dashboard-port={dashboard}",
        "--dashboard-host=127.0.0.1",
        "--num-cpus=4",
        f"--temp-dir={short}",
        f"--ray-client-server-port={_free_port()}",
        "--disable-usage-stats",
        f"--dashboard-agent-listen-port={_free_port()}",
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for(dashboard)
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
        shutil.rmtree(short, ignore_errors=True)


def test_a_submitted_pipeline_succeeds(head: str, tmp_path: Path) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):  # without the token nobody gets in
        urllib.request.urlopen(f"{head}/api/jobs/")
    arguments = small_arguments(tmp_path / "out", finetune__generator="vanilla", evaluate__seeds=1)
    # A process of its own: what this one knows of Ray's authentication was fixed when it first imported ray.
    submit = [RAY, "job", "submit", f"--address={head}", "--working-dir=.", "--", "python", "-m", "jobs.pipeline"]
    done = subprocess.run([*submit, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=480, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "succeeded" in done.stdout and "verdict:" in done.stdout
    assert (tmp_path / "out" / "report.json").exists()
