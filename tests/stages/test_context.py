"""Whoever only looks at an output folder leaves it as it is; whoever works in it keeps its log and its progress."""

from __future__ import annotations

from pathlib import Path

from fairsynth.commands.plan.finished import finished_stages
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.stages.context import opened, opened_for_work
from fairsynth.watching import log, record
from tests.watching.leftovers import finish, progress


def _of(out: Path) -> RunConfig:
    return load_config(None, "demo", {"out": str(out)})


def _files(out: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}


def test_looking_leaves_no_trace(tmp_path: Path) -> None:
    finish(tmp_path, "ingest")
    progress(tmp_path, ended={"how": "budget", "why": ""}, stages={"ingest": {"state": "stopped"}})
    before = _files(tmp_path)
    with opened(_of(tmp_path)) as context, context.stage("ingest"):
        context.cell(1, 2, "of a bench")
    with opened(_of(tmp_path)) as context:
        context.found(finish(tmp_path / "elsewhere", "embed"))
    finished_stages(_of(tmp_path), tmp_path, None)
    assert {path: _files(tmp_path)[path] for path in before} == before
    assert not (tmp_path / log.FOLDER).exists()


def test_work_is_told_in_the_folder(tmp_path: Path) -> None:
    with opened_for_work(_of(tmp_path), None, 2.5) as context:
        context.cell(1, 2, "99 %")
        context.found(finish(tmp_path, "embed"))
        with context.stage("ingest") as ended:
            ended("ingest-1", {}, False)
    content = record.read(tmp_path)
    assert content is not None and content["ended"]["how"] == "finished" and content["max_worker_hours"] == 2.5
    assert content["cell"]["title"] == "99 %" and content["stages"]["embed"]["state"] == "cached"
    assert [line["kind"] for line in log.read(tmp_path)] == [log.BEGAN, log.ENDED]
