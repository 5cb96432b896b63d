"""The plan of a run into a bucket: what run refuses is refused, and nothing stays there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairsynth.store.objects import Objects
from tests.support.calling import call, refused
from tests.support.store.s3_server import Bucket


def test_nothing_is_left_in_the_bucket_and_the_address_is_shown(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    plain = bucket.uri().partition("?")[0]
    for words in (("plan", "--preset", "demo"), ("run", "--preset", "demo", "--dry-run")):
        code, out, err = call(*words, "--out", bucket.uri())
        assert (code, err) == (0, "") and out.startswith(f"output   {plain}\n") and str(tmp_path) not in out
    assert json.loads(call("plan", "--preset", "demo", "--json", "--out", bucket.uri())[1])["out"] == plain
    objects = Objects.at(bucket.uri())
    assert list(objects.walk()) == [] and list((tmp_path / "cache").iterdir()) == []
    # What a probe left that was killed is nobody's.
    objects.write(".fairsynth-probe-0123456789abcdef", b"x")
    assert call("plan", "--preset", "demo", "--out", bucket.uri())[0] == 0
    objects.write("photos/1.jpg", b"somebody's")
    assert "holds other objects (photos/1.jpg) and no run" in refused(
        call("plan", "--preset", "demo", "--out", bucket.uri())
    )
