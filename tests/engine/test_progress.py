"""How far a run is: counted, told in time, recorded for other shells, and never a reason to fail."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from fairsynth.artifacts import Units
from fairsynth.config import ResourcesConfig
from fairsynth.engine import progress as module
from fairsynth.engine.budget import Budget
from fairsynth.engine.progress import Progress, watched
from fairsynth.engine.session import session_of
from fairsynth.engine.units import run_units
from fairsynth.errors import BudgetReached, DataError, InfrastructureError
from fairsynth.watching import log, record
from fairsynth.watching.log import failure
from tests.engine.test_units import Slow


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.05)
    monkeypatch.setattr(module, "RECORD", 0.05)
    monkeypatch.setattr(module, "SIGN", 0.2)


def recorded(root: Path) -> dict[str, Any]:
    content = record.read(root)
    assert content is not None
    return content


def until(holds: Any) -> None:
    """Wait for what the thread does."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def test_the_record_says_where_the_run_is_and_in_the_end_how_it_ended(tmp_path: Path) -> None:
    with watched(tmp_path, 2.5) as progress:
        with progress.stage("embed") as finished:
            finished("embed-1", {"counts": {"quarantined": 3, "used": 9}, "seconds": 1.5, "summary": "9 images"}, False)
        with progress.stage("finetune"), progress.work("finetune", 11, 4, 2) as work:
            work.tick()
            until(lambda: recorded(tmp_path)["now"].get("done") == 5)
            now = recorded(tmp_path)
    assert now["now"]["stage"] == "finetune" and now["now"]["total"] == 11 and now["now"]["workers"] == 2
    assert now["now"]["rate"] > 0 and 0 < now["now"]["seconds_left"] <= 6 / now["now"]["rate"]
    assert now["stages"]["embed"] | {"began": 0} == {
        "state": "finished", "began": 0, "folder": "embed-1", "seconds": 1.5, "summary": "9 images",
    }  # fmt: skip
    assert now["failures"] == {"quarantined": 3, "retried": 0} and now["max_worker_hours"] == 2.5
    assert now["ended"] is None and recorded(tmp_path)["ended"] == {"how": "finished", "why": ""}


@pytest.mark.parametrize(
    ("error", "how", "why"),
    [
        (DataError("no images"), "failed", "no images"),
        (KeyboardInterrupt(), "interrupted", ""),
        (BudgetReached("spent"), "budget", "spent"),
    ],
)
def test_a_stage_that_did_not_end_is_one_that_stopped(tmp_path: Path, error: BaseException, how: str, why: str) -> None:
    with pytest.raises(type(error)), watched(tmp_path) as progress, progress.stage("tune"):
        raise error
    content = recorded(tmp_path)
    assert content["ended"] == {"how": how, "why": why} and content["stages"]["tune"]["state"] == "stopped"


def test_it_gives_signs_of_life_while_nothing_moves(tmp_path: Path) -> None:
    with watched(tmp_path) as progress, progress.stage("tune"), progress.work("tune", 9, 0, 1):
        first = recorded(tmp_path)["updated_at"]
        until(lambda: recorded(tmp_path)["updated_at"] > first + 0.2)


def test_where_nobody_ticks_what_is_done_is_counted(tmp_path: Path) -> None:
    done = iter(range(100))
    with (
        watched(tmp_path) as progress,
        progress.stage("tune"),
        progress.work("tune", 1000, 0, 1, lambda: next(done)),
    ):
        until(lambda: recorded(tmp_path)["now"].get("done", 0) >= 3)


def test_units_under_way_count_by_their_parts(tmp_path: Path) -> None:
    with (
        watched(tmp_path) as progress,
        progress.stage("finetune"),
        progress.work("finetune", 11, 0, 1, lambda: 3.47),
    ):
        until(lambda: recorded(tmp_path)["now"].get("done") == 3)
        now = recorded(tmp_path)["now"]
    assert (now["done"], now["total"], now["reached"]) == (3, 11, 3.47)


def test_failures_after_which_work_is_tried_again_are_counted_from_this_run_on(tmp_path: Path) -> None:
    failure(tmp_path, "finetune", "lot-1", "of an earlier run", again=True)
    with watched(tmp_path) as progress, progress.stage("finetune"):
        failure(tmp_path, "finetune", "lot-1", "gone", again=True)
        failure(tmp_path, "finetune", "lot-2", "for good")
    assert recorded(tmp_path)["failures"]["retried"] == 1


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    progress = Progress()
    with progress.stage("tune"), progress.work("tune", 2, 0, 1) as work:
        work.tick()
    progress.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_or_a_folder_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").symlink_to("/dev/full")
    (tmp_path / "progress.json" / "in the way").mkdir(parents=True)
    with watched(tmp_path) as progress, progress.stage("tune"), progress.work("tune", 2, 0, 1) as work:
        work.tick()
        time.sleep(0.2)
    assert record.read(tmp_path) is None


def test_a_working_folder_that_was_removed_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with watched(tmp_path / "out") as progress, progress.stage("tune"):
        pass
    assert recorded(tmp_path / "out")["folder"] is None


def test_what_cannot_be_counted_does_not_hide_what_went_wrong() -> None:
    def lost() -> int:
        raise OSError("the disk is gone")

    progress = Progress()
    with pytest.raises(InfrastructureError, match="no node"), progress.work("tune", 9, 0, 1, lost):
        raise InfrastructureError("no node")
    assert progress.work_now is None


def test_a_look_that_comes_back_late_does_not_take_back_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = Event(), Event()

    def hang(self: Progress) -> None:
        hangs.set()
        goes_on.wait(20)

    monkeypatch.setattr(Progress, "_show", hang)
    monkeypatch.setattr(module, "RECORD", 0)
    monkeypatch.setattr(module, "SIGN", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "join", lambda self, timeout=None: None)  # as if its five seconds were over
        with watched(tmp_path) as progress, progress.stage("tune"):
            hangs.wait(20)
    late = progress._thread
    goes_on.set()
    assert late is not None
    late.join(20)
    assert recorded(tmp_path)["ended"] == {"how": "finished", "why": ""}


def test_images_that_cells_of_a_bench_share_are_counted_once(tmp_path: Path) -> None:
    three = {"counts": {"quarantined": 3}}
    with watched(tmp_path) as progress:
        for number in (1, 2, 3):
            progress.cell(number, 3, "a cell")
            with progress.stage("ingest") as finished:
                finished("ingest-1", three, number > 1)
        progress.found("embed", "embed-7", {"counts": {"quarantined": 2}})
    assert recorded(tmp_path)["failures"]["quarantined"] == 5


def test_a_bench_that_ends_before_a_stage_of_its_last_cell_has_ended(tmp_path: Path) -> None:
    with watched(tmp_path) as progress:
        progress.cell(2, 2, "whose data are refused")
    assert recorded(tmp_path)["ended"] == {"how": "finished", "why": ""}


def test_a_budget_counts_workers_and_stops_before_the_next_unit_but_not_behind_the_last(tmp_path: Path) -> None:
    progress = Progress(budget=Budget(3))
    with (
        pytest.raises(BudgetReached, match=r"stopped in stage tune with 2 of 9 done; .* the same command goes on"),
        progress.work("tune", 9, 0, 3) as work,
    ):
        work.spent_until -= 1800  # as if half an hour had gone by
        work.tick()
        assert 1700 < (work.seconds_allowed or 0) < 1801
        assert progress.budget.used == pytest.approx(1.5, abs=0.1)
        work.spent_until -= 1800
        work.tick()
    assert 3 <= progress.budget.used < 3.1 and BudgetReached.exit_code == 4
    with pytest.raises(BudgetReached), progress.work("evaluate", 3, 0, 1):
        pytest.fail("it may not even begin")
    progress = Progress(budget=Budget(1))
    with progress.work("tune", 1, 0, 1) as work:
        work.spent_until -= 3600
        work.tick()
    assert progress.budget.seconds_left == 0


def test_hours_are_counted_while_a_unit_runs_each_once_and_none_behind_the_end(tmp_path: Path) -> None:
    with watched(tmp_path) as progress, progress.stage("embed"), progress.work("embed", 3, 0, 3) as work:
        work.spent_until -= 1800  # as if half an hour had gone by in the first unit
        until(lambda: recorded(tmp_path)["worker_hours"] >= 1.5)
        work.tick()
        work.set_done(3)
        assert progress.budget.used == pytest.approx(1.5, abs=0.02)
        progress.work_now = None
        work.end()
        used = progress.budget.used
        work.spent_until -= 1800
        work.look()
        assert progress.budget.used == used


@pytest.mark.parametrize(("every", "lines"), [(0.0, 2), (30.0, 0)])
def test_job_logs_get_a_line_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, every: float, lines: int
) -> None:
    monkeypatch.setattr("fairsynth.engine.heartbeat.Heartbeat.__init__.__defaults__", (every, False))
    with watched(tmp_path) as progress, progress.work("tune", 3, 0, 1) as work:
        for _ in range(3):
            work.tick()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == lines and all(line.startswith("tune ") and "/s eta " in line for line in told)
    assert [line["text"] for line in log.read(tmp_path) if line["kind"] == log.BEAT] == told


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with session_of(ResourcesConfig(workers=1), tmp_path_factory.mktemp("out")) as session:
        yield session


def broken() -> Slow:
    return Slow(broken="b", part="begin")


@pytest.mark.slow
def test_units_that_fail_on_ray_are_in_the_log_with_name_and_trace(session: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="begin of b failed"):
        run_units(session, "audit", Units(tmp_path / "units"), ["a", "b"], broken, models=False)
    (line,) = log.lines(session.progress.root / log.FOLDER / log.FAILURES)
    assert (line["stage"], line["unit"], line["text"]) == ("audit", "b", "DataError: begin of b failed")
    assert "Traceback" in line["trace"] and "in _work" in line["trace"]


@pytest.mark.slow
def test_rays_agent_offers_the_figures_at_the_nodes_metrics_port(session: Any, tmp_path: Path) -> None:
    from urllib.request import urlopen

    import ray

    session.connect()
    counts = {"used": 40, "excluded": 8, "quarantined": 2}
    with session.progress.stage("synthesize") as finished, session.progress.work("synthesize", 5, 0, 1) as work:
        work.set_done(3)
        session.progress._show()
        finished("synthesize-1", {"counts": counts}, False)
    port, found = ray.nodes()[0]["MetricsExportPort"], ""
    end = time.monotonic() + 60
    while 'outcome="excluded"' not in found and time.monotonic() < end:
        time.sleep(1)
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:  # the node's own agent
            found = answer.read().decode()
    figures = [line for line in found.splitlines() if line.startswith("ray_fairsynth_")]

    def value(name: str, *tags: str) -> float:
        (line,) = (f for f in figures if f.startswith(f"ray_fairsynth_{name}{{") and all(tag in f for tag in tags))
        return float(line.rsplit(" ", 1)[1])

    stage = 'stage="synthesize"'
    assert {o: value("images", stage, f'outcome="{o}"') for o in counts} == counts
    assert value("units_done", stage) == 3 and value("units_total", stage) == 5
    assert value("worker_hours") > 0 and json.dumps(figures)
