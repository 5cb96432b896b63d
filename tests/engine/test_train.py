"""Jobs on Ray Train: run to their ends or failed as they say, tried again where a machine was at fault."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from fairsynth.config import ResourcesConfig
from fairsynth.engine import train
from fairsynth.engine.budget import Budget
from fairsynth.engine.lifetime import processes
from fairsynth.engine.session import Room, Session, Worker, session_of
from fairsynth.engine.train import Tally, run_jobs
from fairsynth.errors import BudgetReached, DataError, FairsynthError, InfrastructureError
from fairsynth.models.data_parallel import Ranks
from fairsynth.watching import log

ONE = Room(Worker(1, 1.0, 0.0, 1), workers=1, lanes=1, side_by_side=1)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_of(ResourcesConfig(max_failures=1), tmp_path_factory.mktemp("out")) as session:
        session.connect()
        yield session


def job(ranks: Ranks, machine_goes: Callable[[], bool], folder: Path, name: str) -> None:
    """Notes that it began, and its place; then does what its name says."""
    with (folder / name).open("a") as file:
        file.write(f"{ranks.rank}/{ranks.world} {machine_goes()}\n")
    if name == "refused":
        raise DataError("these data\nare no good")
    if name == "second-refused":
        if not ranks.first:
            raise DataError("the second has no data")
        ranks.sum(torch.zeros(1))  # waits for the second
    if name == "killed" and (folder / name).read_text().count("\n") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "unlucky":
        raise InfrastructureError("the disk is gone")


def run(
    session: Session, folder: Path, *names: str, room: Room = ONE, tally: Tally | None = None
) -> list[float | FairsynthError]:
    jobs = {name: partial(job, folder=folder, name=name) for name in names}
    return list(run_jobs(session, "tune", jobs, folder / "ray", room, tally))


def test_jobs_run_and_failures_come_back_as_they_were_raised(session: Session, tmp_path: Path) -> None:
    began, asked = time.time(), list[int]()

    def done() -> int:
        asked.append(sum((tmp_path / name).exists() for name in ("good", "refused", "other")))
        return asked[-1]

    good, refused, other = run(session, tmp_path, "good", "refused", "other", tally=Tally(3, done))
    assert isinstance(good, float) and began < good < time.time() and isinstance(other, float)
    assert type(refused) is DataError and str(refused) == "these data\nare no good"
    # One worker, no notice; and what was raised on purpose is not tried again.
    assert {name: (tmp_path / name).read_text() for name in ("good", "refused")} == {
        "good": "0/1 False\n",
        "refused": "0/1 False\n",
    }
    assert asked[0] == 0 and asked[-1] == 3 and asked == sorted(asked), "how far all are is asked as jobs end"


# Fault case 48: a worker is killed in training.
def test_a_killed_worker_is_replaced_and_an_infrastructure_error_is_tried_again(
    session: Session, tmp_path: Path
) -> None:
    killed, unlucky = run(session, tmp_path, "killed", "unlucky")
    assert isinstance(killed, float) and (tmp_path / "killed").read_text().count("\n") == 2
    assert isinstance(unlucky, InfrastructureError) and "the disk is gone" in str(unlucky)
    assert (tmp_path / "unlucky").read_text().count("\n") == 2, "tried max_failures times more"
    told = [line for line in log.read(session.progress.root or tmp_path) if line["kind"] == log.FAILED]
    again = {line["unit"]: line["text"] for line in told if line["again"]}
    assert again.keys() == {"killed", "unlucky"} and "the disk is gone" in again["unlucky"]
    assert any("the disk is gone" in line["text"] and "Error" in line["trace"] for line in told if not line["again"])


def test_no_job_is_begun_that_nobody_asks_for(session: Session, tmp_path: Path) -> None:
    jobs = {name: partial(job, folder=tmp_path, name=name) for name in ("refused", "later")}
    first = next(run_jobs(session, "tune", jobs, tmp_path / "ray", ONE))
    assert isinstance(first, DataError) and not (tmp_path / "later").exists()


def test_a_job_that_cannot_be_begun_fails_and_does_not_hang(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*anything: object) -> None:
        raise ValueError("num_workers must be a number")

    monkeypatch.setattr(train, "_trainer", refused)
    (ended,) = run(session, tmp_path, "never")
    assert isinstance(ended, InfrastructureError) and "num_workers must be a number" in str(ended)


def test_two_workers_of_a_job_know_their_places(session: Session, tmp_path: Path) -> None:
    (ended,) = run(session, tmp_path, "pair", room=Room(Worker(2, 1.0, 0.0, 1), 2, 1, 1))
    assert isinstance(ended, float)
    assert sorted((tmp_path / "pair").read_text().splitlines()) == ["0/2 False", "1/2 False"]


def test_what_another_worker_than_the_first_raises_is_not_lost(session: Session, tmp_path: Path) -> None:
    (ended,) = run(session, tmp_path, "second-refused", room=Room(Worker(2, 1.0, 0.0, 1), 2, 1, 1))
    assert type(ended) is DataError and str(ended) == "the second has no data"


def patient(ranks: Ranks, machine_goes: Callable[[], bool], folder: Path) -> None:
    """Leaves one piece of its work, and then takes its time."""
    (folder / "piece").write_text("")
    while not (folder / "over").exists():
        time.sleep(0.1)


def test_a_budget_stops_jobs_at_work_and_what_they_left_is_counted(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_LOOK", 0.2)
    monkeypatch.setattr(session.progress, "budget", Budget(1 / 3600))
    pieces = Tally(2, lambda: len(list(tmp_path.glob("piece"))))
    with pytest.raises(BudgetReached, match=r"stopped in stage finetune with [01] of 2 done"):
        list(run_jobs(session, "finetune", {"one": partial(patient, folder=tmp_path)}, tmp_path / "ray", ONE, pieces))
    assert session.jobs_left, "Ray is not torn down under what is still at work"
    (tmp_path / "over").write_text("")
    for thread in (one for one in threading.enumerate() if one.name.endswith("(fit)")):
        thread.join(timeout=120)
    session.jobs_left = False


def test_a_local_job_does_not_wait_for_a_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    class Trainer:
        def _create_default_callbacks(self) -> list[object]:
            return [PlacementGroupCleanerCallback(), "another"]

    assert hasattr(DataParallelTrainer, "_create_default_callbacks"), "Ray's own name for it"
    monkeypatch.setattr(processes, "started", lambda: {"raylet": 1})
    assert train._fitting(Trainer)()._create_default_callbacks() == ["another"]
    monkeypatch.setattr(processes, "started", dict)
    assert train._fitting(Trainer) is Trainer, "a cluster, or a Ray that somebody else has started"
