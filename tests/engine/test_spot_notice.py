"""The notice of a spot machine's end: asked for as AWS wants it, passed on to Ray once, and repeated if Ray is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ray.scripts.scripts import drain_node

from fairsynth.engine import spot_notice
from tests.support.aws_metadata import metadata, notice_in

SCRIPT = Path(spot_notice.__file__)


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """What a stand-in for the command ``ray`` was called with, a line per call; it fails the first time."""
    program, calls = tmp_path / "bin" / "ray", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\ntest $(wc -l < {calls}) -gt 1\n')
    program.chmod(0o755)
    return calls


def start(address: str, calls: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The file alone, as it runs on a node."""
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), "--metadata", address, "--every", "0.05", *more],
        env={"PATH": f"{calls.parent / 'bin'}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


# Fault case 50: a node is taken back with a notice.
def test_a_notice_reaches_ray_with_its_time_and_again_if_ray_did_not_take_it(calls: Path) -> None:
    with metadata((404, ""), (500, "broken"), (200, "no JSON"), notice_in(120)) as address:
        done = start(address, calls, "--node-id", "ab12")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in calls.read_text().splitlines()]
    assert len(lines) == 2, "refused once, taken once"
    for line in lines:
        assert line[:5] == ["drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        assert line[5] == "--deadline-remaining-seconds" and 100 <= int(line[6]) <= 115
        assert line[7:] == ["--node-id", "ab12"]
        # Ray's own command takes them all.
        drain_node.make_context("drain-node", line[1:])


def test_nothing_is_said_before_the_notice() -> None:
    with metadata((404, "")) as address:
        assert spot_notice.notice(address) is None


def test_the_time_of_the_notice_is_read() -> None:
    with metadata((200, '{"action": "stop", "time": "2026-11-25T08:22:00Z"}')) as address:
        assert spot_notice.notice(address) == datetime(2026, 11, 25, 8, 22, tzinfo=UTC)


def test_a_late_notice_still_leaves_ray_a_second(calls: Path) -> None:
    with metadata(notice_in(-30)) as address:
        start(address, calls)
    assert all(line.endswith("--deadline-remaining-seconds 1") for line in calls.read_text().splitlines())
