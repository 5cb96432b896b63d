"""The log of a run in a bucket, while it is at work on the same machine: what it sent is seen, and its copy is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fairsynth.lock import locked
from fairsynth.store.held import followed
from fairsynth.store.mirror import BucketPath
from fairsynth.store.place import output_root
from fairsynth.watching import log
from tests.support.calling import call
from tests.support.store.s3_server import Bucket


def add(root: Path, text: str) -> None:
    log.append(root / log.FOLDER / log.LOG, {"kind": log.SAID, "text": text, "stage": "ingest"})


def test_it_follows_a_run_to_its_end(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    root = output_root(bucket.uri())
    assert isinstance(root, BucketPath)
    program = "import sys; from fairsynth.cli import main; sys.exit(main(['logs', sys.argv[1], '--follow']))"
    with locked(root):
        add(root, "first")
        followed(root)
        follower = subprocess.Popen([sys.executable, "-c", program, bucket.uri()], stdout=subprocess.PIPE, text=True)
        assert follower.stdout
        assert "first" in follower.stdout.readline() and follower.poll() is None
        add(root, "second")
        mine = (root / log.FOLDER / log.LOG).read_bytes()
        code, out, err = call("status", bucket.uri(), "--json")
        assert (code, err) == (0, "") and json.loads(out)["state"] == "running"
        assert call("logs", bucket.uri())[1].count("\n") == 1, "the second line is not sent yet"
        assert (root / log.FOLDER / log.LOG).read_bytes() == mine
        followed(root)
        assert "second" in follower.stdout.readline()
        add(root, "third")
    rest, _ = follower.communicate(timeout=60)
    assert "third" in rest and follower.returncode == 0
    assert call("logs", bucket.uri())[1].count("\n") == 3
