"""What people watch a run by comes to the bucket while it works, and a store that fails holds no run up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fairsynth.lock import locked
from fairsynth.store import following
from fairsynth.store.held import followed
from fairsynth.store.mirror import place_of
from fairsynth.store.objects import Objects
from fairsynth.store.place import output_root
from tests.support.store.fault_proxy import FaultProxy
from tests.support.store.s3_server import Bucket


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))


def arrives(objects: Objects, key: str, content: bytes) -> None:
    end = time.monotonic() + 20
    while objects.read(key) != content:
        assert time.monotonic() < end, f"{key} never came"
        time.sleep(0.05)


def test_what_changes_is_there_soon_and_in_the_end(bucket: Bucket) -> None:
    root, objects = output_root(bucket.uri()), Objects.at(bucket.uri())
    with locked(root):
        for text in (b"1", b"2 and more"):
            (root / "progress.json").write_bytes(text)
            followed(root)
            arrives(objects, "progress.json", text)
        (root / "logs").mkdir()
        (root / "logs" / "run.jsonl").write_bytes(b"last words\n")
    assert objects.read("logs/run.jsonl") == b"last words\n"
    (root / "progress.json").write_bytes(b"of one who does not hold the output")
    followed(root)
    time.sleep(0.3)
    assert objects.read("progress.json") == b"2 and more"


def test_a_log_that_a_killed_run_did_not_send_is_sent_by_the_next(bucket: Bucket) -> None:
    root, objects = output_root(bucket.uri()), Objects.at(bucket.uri())
    (root / "logs").mkdir(parents=True)
    (root / "logs" / "run.jsonl").write_bytes(b"never sent\n")
    with locked(root):
        followed(root)
        arrives(objects, "logs/run.jsonl", b"never sent\n")


def test_a_store_that_hangs_holds_nothing_up(bucket: Bucket) -> None:
    with FaultProxy(bucket.endpoint).running() as proxy:
        root = output_root(bucket.uri("out", proxy.url))
        with locked(root):
            proxy.all = "hang"
            for number in range(5):
                (root / "progress.json").write_bytes(b"x" * number)
                start = time.monotonic()
                followed(root)
                assert time.monotonic() - start < 0.2
            ends = time.monotonic()
        # Neither the last files nor the lease can be sent.
        assert time.monotonic() - ends < following._LAST + 8
        assert not following._AT_WORK
        proxy.all = None
    assert place_of(root) is not None
