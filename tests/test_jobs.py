"""The pipeline as a Ray job: local head with dashboard and token authentication."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import small_arguments

ROOT = Path(__file__).parent.parent
RAY = str(Path(sys.executable).parent / "ray")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
        shutil.rmtree(short, ignore_errors=True)


def test_a_submitted_pipeline_succeeds(head: str, tmp_path: Path) -> None:
    import urllib.error
    import urllib.request

    from ray.job_submission import JobStatus, JobSubmissionClient

    client = _connect(JobSubmissionClient, head)
    with pytest.raises(urllib.error.HTTPError, match="401"):  # without the token nobody gets in
        urllib.request.urlopen(f"{head}/api/jobs/")
    arguments = small_arguments(tmp_path / "out", finetune__generator="vanilla", evaluate__seeds=1)
    job = client.submit_job(
        entrypoint=" ".join(["python -m jobs.pipeline", *arguments]),
        runtime_env={"working_dir": str(ROOT), "excludes": [".git", ".venv", "runs", "build", "tests"]},
    )
    deadline = time.monotonic() + 480
    while client.get_job_status(job) not in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED):
        assert time.monotonic() < deadline, client.get_job_logs(job)[-3000:]
        time.sleep(1)
    logs = client.get_job_logs(job)
    assert client.get_job_status(job) == JobStatus.SUCCEEDED, logs[-3000:]
    assert "verdict:" in logs and (tmp_path / "out" / "report.json").exists()


def _connect(client: type, address: str):  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while True:
        try:
            return client(address)
        except (ConnectionError, RuntimeError):
            assert time.monotonic() < deadline, "the head never answered"
            time.sleep(1)
