"""A whole small run of images in a folder of a disk, made once for all tests: by a job that is submitted to a Ray head."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.shared.once import once

ROOT = Path(__file__).parents[3]
RAY = str(Path(sys.executable).parent / "ray")
# Images of each group that take part: in a bucket each costs several requests.
MOST = {"train": 40, "val": 12, "test": 16}


class Submitted:
    """The images, the output of their run, and how the job that made it ended."""

    def __init__(self, folder: Path) -> None:
        self.images, self.out = folder / "images", folder / "out"
        self.told: dict[str, Any] = json.loads((folder / "told.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """The run, and how its job ended: well or not."""
    return Submitted(once(tmp_path_factory, "submitted", _made))


def words_of(images: str) -> dict[str, object]:
    """What a run of the images has besides the settings of every small run, by ``small_arguments``' names."""
    return {"data__format": "folder", "data__root": images}


def _made(folder: Path) -> None:
    from tests.conftest import small_arguments

    write_images(folder / "images")
    with head(folder) as (address, environment):
        refused = 0
        try:  # without the token nobody gets in
            urllib.request.urlopen(f"{address}/api/jobs/")
        except urllib.error.HTTPError as error:
            refused = error.code
        submit = [RAY, "job", "submit", f"--address={address}", "--working-dir=.", "--"]
        words = small_arguments(folder / "out", **words_of(str(folder / "images")))
        # A process of its own: what this one knows of Ray's authentication was fixed when it first imported ray.
        done = subprocess.run(
            [*submit, "python", "-m", "jobs.pipeline", *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=480, check=False,
        )  # fmt: skip
    told = {"code": done.returncode, "printed": done.stdout, "complained": done.stderr, "without a token": refused}
    (folder / "told.json").write_text(json.dumps(told), "utf-8")


def write_images(folder: Path) -> None:
    """A part of the demo's images, and their table."""
    from PIL import Image

    from fairsynth.demo import dataset
    from tests.support.datasets import write_rows

    rows, counts = list[tuple[object, ...]](), Counter[tuple[str, ...]]()
    for image in dataset.build():
        group = (image.label, image.attribute, image.split)
        counts[group] += 1
        if counts[group] <= MOST[image.split]:
            path = folder / image.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.pixels).save(path)
            rows.append((image.file_name, *group))
    write_rows(folder / "metadata.csv", ("file_name", "label", "attribute", "split"), rows)


@contextmanager
def head(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A head node with a dashboard on 127.0.0.1 that demands a token: its address, and the environment that has it."""
    token = folder / "token"
    token.write_text("0123456789abcdef" * 4)
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    of_head = environment | {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",  # the job says "python"
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    short = tempfile.mkdtemp(prefix="fs")  # a socket path must stay under 108 characters
    port, dashboard = _free_port(), _free_port()
    command = [
        RAY,
        "start",
        "--head",
        "--block",
        f"--port={port}",
        f"--dashboard-port={dashboard}",
        "--dashboard-host=127.0.0.1",
        "--num-cpus=4",
        f"--temp-dir={short}",
        f"--ray-client-server-port={_free_port()}",
        "--disable-usage-stats",
        f"--dashboard-agent-listen-port={_free_port()}",
    ]
    process = subprocess.Popen(
        command, env=of_head, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for(dashboard)
        yield f"http://127.0.0.1:{dashboard}", environment
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
        shutil.rmtree(short, ignore_errors=True)


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
