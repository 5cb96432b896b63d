"""An output's address, in every command that takes one: what is none is refused, and no secret is repeated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.calling import call, refused

SECRET = "wJalrXUtnFEMI"
COMMANDS = (
    "run --preset demo --out", "run --preset demo --dry-run --out", "plan --preset demo --out",
    "plan --preset demo --rates-from", "ingest --preset demo --out", "status", "logs", "gc", "gc --delete",
    "bench --preset demo --out", "doctor --no-cluster --out", "init --preset demo --out", "init --preset demo --to",
    "inspect demo --out", "export --format kohya", "export --format onnx", "export --preset demo --format parquet --out",
    "export RUN --format kohya --to", "predict IMAGES --run", "predict IMAGES --run RUN --to",
)  # fmt: skip
ADDRESSES = ("s3:/bucket/x", "S3://bucket/x", f"s3://key:{SECRET}@bucket/x", f"s3:/key:{SECRET}@bucket/x")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_address_is_refused_before_anything_is_written(folder: Path, command: str) -> None:
    for address in ADDRESSES:
        said = refused(call(*command.split(), address))
        assert SECRET not in said and "key:" not in said
        if address in ("s3:/bucket/x", "S3://bucket/x"):
            assert "is s3:// meant?" in said
        else:
            assert any(why in said for why in ("password", "is s3:// meant?", "--to is in a bucket"))
    assert os.listdir(folder / "here") == [] and not (folder / "cache").exists()


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.endswith("--to")])
def test_tables_configs_and_exports_are_written_to_this_machine_alone(folder: Path, command: str) -> None:
    said = refused(call(*command.split(), "s3://bucket/x"))
    assert "--to is in a bucket, and only a folder or file of this machine can be written to" in said
    assert os.listdir(folder / "here") == []


def test_a_run_in_a_bucket_is_no_config(folder: Path) -> None:
    said = refused(call("export", "s3://bucket/run", "--format", "parquet"))
    assert "the address of a run is no config" in said and "--out s3://BUCKET/PREFIX" in said
