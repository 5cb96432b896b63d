"""A run that its budget stops inside a stage ends, by the same command, like one that was never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

from fairsynth.commands.logs.show import is_failure
from fairsynth.commands.status.look import look
from fairsynth.watching import log
from tests.conftest import small_arguments
from tests.support.calling import called
from tests.support.comparing import essence, stage_folder


# Fault case 66: a budget is used up.
def test_it_stops_behind_a_unit_and_the_same_command_goes_on(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)
    before = len(log.read(out))
    for stage in ("evaluate", "report"):
        shutil.rmtree(stage_folder(out, stage))
    stopped = called("run", *small_arguments(out), "--max-worker-hours", "1e-6")
    assert stopped.returncode == 4, stopped.stderr[-3000:]
    assert "--max-worker-hours allows 1e-06: stopped in stage evaluate with 1 of 6 done" in stopped.stderr
    assert "the same command goes on" in stopped.stderr and "Traceback" not in stopped.stderr
    (folder,) = (out / "stages").glob("evaluate-*")
    trained = {path: path.stat().st_mtime_ns for path in (folder / "units").glob("*/predictions.parquet")}
    assert 1 <= len(trained) < 6
    found = look(out)
    assert found["state"] == "stopped" and found["ended"]["how"] == "budget" and found["process"] is None
    assert found["worker_hours"] > 1e-6 and not any(map(is_failure, log.read(out)))
    result = called("run", *small_arguments(out))
    assert result.returncode == 0, result.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in trained} == trained, "finished units are kept"
    assert essence(out) == essence(finished_run)
    assert look(out)["state"] == "finished" and look(out)["verdict"]
    # What was printed is in the log, of this run and of those before it.
    said = "\n".join(line["text"] for line in log.read(out) if line["kind"] == log.SAID)
    printed = [line for text in (result, stopped) for line in text.stdout.splitlines()]
    assert [line for line in printed if line not in said] == []
    assert len([line for line in log.read(out)[before:] if line["kind"] == log.BEGAN]) == 2
