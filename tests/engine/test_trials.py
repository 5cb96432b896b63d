"""Trials on Ray Tune: each is run, what is raised on purpose comes back as itself, a lost process is tried again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fairsynth.config import ResourcesConfig
from fairsynth.engine.budget import Budget
from fairsynth.engine.session import Session, session_of
from fairsynth.engine.trials import METRIC, Report, run_trials
from fairsynth.errors import BudgetReached, DataError, InfrastructureError
from fairsynth.watching import log


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_of(ResourcesConfig(workers=2, max_failures=1), tmp_path_factory.mktemp("out")) as session:
        yield session


def trial(report: Report, ranks: Any, folder: Path, name: str) -> None:
    """Reports twice, then does what its name says."""
    for merit in (0.25, 0.5):
        report({METRIC: merit, "name": name})
    with (folder / name).open("a") as file:
        file.write("began\n")
    if name == "refused":
        raise DataError("no validation image")
    if name == "killed" and (folder / name).read_text().count("\n") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "unlucky":
        raise InfrastructureError("the disk is gone")
    assert ranks is None


def run(session: Session, folder: Path, *names: str) -> None:
    run_trials(session, "tune", {name: partial(trial, folder=folder, name=name) for name in names}, folder / "ray")


def test_every_trial_is_run_and_a_killed_one_again(session: Session, tmp_path: Path) -> None:
    run(session, tmp_path, "one", "two", "killed")
    counts = {name: (tmp_path / name).read_text().count("began") for name in ("one", "two", "killed")}
    assert counts == {"one": 1, "two": 1, "killed": 2}
    (told,) = (line for line in log.read(session.progress.root or tmp_path) if line["kind"] == log.FAILED)
    assert (told["stage"], told["unit"], told["again"]) == ("tune", "killed", True) and told["text"]


def test_what_is_raised_on_purpose_comes_back_as_itself_and_is_not_tried_again(
    session: Session, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"^no validation image$"):
        run(session, tmp_path, "good", "refused")
    assert (tmp_path / "refused").read_text() == "began\n" and (tmp_path / "good").exists()


def test_an_infrastructure_error_is_tried_again_and_then_told(session: Session, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="the disk is gone"):
        run(session, tmp_path, "unlucky")
    assert (tmp_path / "unlucky").read_text().count("began") == 2


def endless(report: Report, ranks: Any) -> None:
    """Reports again and again."""
    while True:
        time.sleep(0.2)
        report({METRIC: 0.5})


def test_a_budget_stops_trials_that_are_at_work(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session.progress, "budget", Budget(4 / 3600))
    with pytest.raises(
        BudgetReached, match=r"stopped in stage tune with 0 of 2 done; .* nothing came to its end there"
    ):
        run_trials(session, "tune", {"one": endless, "two": endless}, tmp_path / "ray")
    assert session.progress.budget.used >= 4 / 3600
