"""Many images on Ray: the table is the same however many workers there are, and a killed command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fairsynth.commands.predict import batches
from fairsynth.config import ResourcesConfig
from fairsynth.data.storage import Storage
from fairsynth.engine.session import session_of
from fairsynth.lock import locked
from tests.support.calling import call
from tests.support.models.classifiers import expected_of, put_run

LABELS = ["cat", "dog"]
# The command with small batches, each of them slow enough to be killed after.
DRIVER = """
import sys, time
from fairsynth import cli
from fairsynth.commands.predict import batches
batches.BATCH = 2
commit = batches.Units.commit
batches.Units.commit = lambda *given: (commit(*given), time.sleep(1))
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_run(tmp_path_factory.mktemp("run"), LABELS)


@pytest.fixture
def on_ray() -> Iterator[None]:
    with session_of(ResourcesConfig()) as session:
        session.connect()
        yield


def test_two_workers_of_ray_write_the_bytes_that_one_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_ray: None
) -> None:
    run = put_run(tmp_path / "run", LABELS)
    monkeypatch.setattr(batches, "BATCH", 2)
    (run / "images" / "a" / "bad.jpg").write_bytes(b"\xff\xd8\xffxx")
    monkeypatch.chdir(run.parent)
    words = ("predict", run / "images", "--run", run.name)
    assert call(*words, "--to", tmp_path / "here.csv")[0] == 0
    monkeypatch.setattr(batches, "FEW", 0)
    code, out, err = call(*words, "--to", "ray.csv", "--resources.workers", "2")
    assert code == 0, err
    assert "8 images in" in out and "1 cannot be read" in out
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.csv", "ray.csv", "run"]


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = tmp_path / "t.parquet"
    words = ["predict", str(run / "images"), "--run", str(run), "--to", str(to)]
    process = subprocess.Popen([sys.executable, "-c", DRIVER, *words], start_new_session=True)
    until = time.monotonic() + 120
    while not list(tmp_path.glob(".t.parquet.parts/*/units/images-*")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not to.exists()
    there = len(list(tmp_path.glob(".t.parquet.parts/*/units/images-*")))
    assert 1 <= there < 4
    monkeypatch.setattr(batches, "BATCH", 2)
    code, out, _ = call(*words)
    assert code == 0 and f"; {there} batches were there before" in out
    rows = pq.read_table(to).to_pylist()
    assert [row["path"] for row in rows] == [f"a/{n}.png" for n in range(7)]
    found = np.array([[row[f"p: {label}"] for label in LABELS] for row in rows])
    assert np.allclose(found, expected_of(run), atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_batches_of_other_images_or_of_another_classifier_are_not_taken(run: Path, tmp_path: Path) -> None:
    storage = Storage(str(run / "images"))
    rows = [batches.Row(file.path, file.location, (file.size, file.time)) for file in storage.files()]
    parts = tmp_path / "parts"
    parts.mkdir()
    given = (run / "classifier", parts, ResourcesConfig())
    table, ran = batches.classified(storage, rows, *given)
    assert (ran.made, ran.cached) == (1, 0) and table["path"].to_pylist() == [row.path for row in rows]
    assert batches.classified(storage, rows, *given)[1].cached == 1
    changed = [rows[0]._replace(stamp=(1, 1)), *rows[1:]]
    assert batches.classified(storage, changed, *given)[1].made == 1
    other = put_run(tmp_path / "other", ["dog", "cat"]) / "classifier"
    assert batches.classified(storage, changed, other, *given[1:])[1].made == 1
    assert len([path for path in parts.iterdir() if (path / "plan.parquet").exists()]) == 1


def test_two_commands_do_not_write_one_table(run: Path, tmp_path: Path) -> None:
    with locked(tmp_path / ".t.csv.parts"):
        code, _, err = call("predict", run / "images", "--run", run, "--to", tmp_path / "t.csv")
    assert code == 6 and "another fairsynth predict is writing" in err and "with --to" in err
    with locked(run):
        code, _, err = call("predict", run / "images", "--run", run, "--to", tmp_path / "t.csv")
    assert code == 6 and "is in use by process" in err
    (run / ".lock").unlink()
