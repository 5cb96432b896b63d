"""A bench in a bucket: its table goes there with every cell, and is seen from any machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairsynth.commands.bench.output import write
from fairsynth.config import RunConfig
from fairsynth.lock import locked
from fairsynth.store.objects import Objects
from fairsynth.store.place import output_root
from tests.commands.bench.test_table import measured
from tests.support.calling import call
from tests.support.store.s3_server import Bucket


def test_the_table_is_sent_and_status_tells_of_it(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    root, objects = output_root(bucket.uri()), Objects.at(bucket.uri())
    outcomes = [measured("erm", "95 %", (9, 2, 9, 9), (9, 4, 9, 9))]
    with locked(root):
        write(root, RunConfig(), outcomes)
        assert objects.names("bench") == [
            f"bench/{name}" for name in ("bench.json", "curve.png", "table.csv", "table.md")
        ]
        first = objects.read("bench/table.md")
        write(root, RunConfig(), [*outcomes, measured("dfr", "95 %", (9, 7, 9, 9), (9, 8, 9, 9))])
    assert first != objects.read("bench/table.md") == (Path(root) / "bench" / "table.md").read_bytes()
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "other"))
    code, out, err = call("status", bucket.uri(), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["bench"]["done"] == 1 and str(tmp_path) not in out
