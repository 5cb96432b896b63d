"""The search on Ray Tune: what it ends with is what a plain loop ends with, whatever was killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from fairsynth.artifacts import Artifact, Identity, Units
from fairsynth.config import ResourcesConfig, RunConfig
from fairsynth.engine.session import Session, session_of
from fairsynth.engine.trials import run_trials
from fairsynth.errors import DataError
from fairsynth.models.state_files import read_state
from fairsynth.stages.context import Context
from fairsynth.stages.tune.halving import Trial, best, promoted
from fairsynth.stages.tune.search import Search, TrialTask
from tests.support.searching import TUNE, Quick, in_turn, looped, packs, search, write_pack
from tests.support.training import images

__all__ = ["packs"]


def on_ray(one: Search, session: Session) -> list[Trial]:
    """All trials of a search on Ray Tune; a checkpoint after every epoch."""
    return one.run(lambda some: run_trials(session, "tune", some, one.units.path.parent / "ray"), 0.0)


@pytest.fixture(scope="module")
def undisturbed(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Trial], Path]:
    """All trials of the loop, and the folder that it left behind."""
    folder = tmp_path_factory.mktemp("loop")
    return looped(search(packs, folder)), folder


@pytest.mark.slow
def test_trials_fall_out_at_rungs_and_the_best_run_to_their_ends(undisturbed: tuple[list[Trial], Path]) -> None:
    trials, folder = undisturbed
    assert [(t.method, t.number) for t in trials] == [(m, n) for m in TUNE.methods for n in range(5)]
    for method in ("erm", "group-dro"):
        of_method = [t for t in trials if t.method == method]
        # The best 2 of 5 go on after 2 epochs.
        rung = [Trial(**_read(folder, f"{method}-{n}-after-2")) for n in range(5)]
        assert {t.number for t in of_method if t.finished} == promoted(rung)
        assert [t.epochs for t in of_method].count(2) == 3 and not any(t.finished for t in rung)
        assert best(of_method, "worst-group").finished
    assert all(t.finished for t in trials if t.method == "jtt")


def _read(folder: Path, unit: str) -> dict[str, Any]:
    content = json.loads((folder / "units" / unit / "trial.json").read_text())
    return content | {"promise": tuple(content["promise"])}


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session(ResourcesConfig(workers=2, checkpoint_seconds=0.0))
    yield session
    session.close()


def killer(stop: threading.Event, until: Callable[[], bool], killed: list[int]) -> None:
    """Kills the first trial's process that is found once ``until`` says so."""
    while not stop.wait(0.02):
        if not until():
            continue
        # Of this Ray alone: others may run on the machine.
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "ray::ImplicitFunc.train" in " ".join(child.cmdline()):
                    child.kill()
                    killed.append(child.pid)
                    return


# Fault case 64: the search loses its driver.
def test_with_a_killed_driver_and_a_killed_trial_the_search_is_the_loops(
    packs: Path, tmp_path: Path, session: Session, undisturbed: tuple[list[Trial], Path]
) -> None:
    _kill_driver(packs, tmp_path)
    assert 3 <= len(Units(tmp_path / "units").done()) < 15
    lengths: dict[str, list[int]] = {}
    stop, killed = threading.Event(), list[int]()

    def known() -> bool:
        """Notes how far each trial's checkpoint is; true once JTT, whose trials run whole, has one."""
        for path in (tmp_path / "checkpoints").glob("jtt-*.safetensors"):
            found = read_state(path)
            if found:
                lengths.setdefault(path.name, []).append(len(found[0]["history"]))
        return any(lengths.values())

    thread = threading.Thread(target=killer, args=(stop, known, killed))
    thread.start()
    try:
        trials = on_ray(search(packs, tmp_path), session)
    finally:
        stop.set()
        thread.join()
    assert killed and trials == undisturbed[0]
    assert not list((tmp_path / "checkpoints").glob("jtt-*"))
    # No checkpoint ever fell back: the killed trial went on from its own.
    assert all(seen == sorted(seen) for seen in lengths.values())


def _kill_driver(packs: Path, folder: Path) -> None:
    """Start the search in a process and kill that, and Ray with it, once a few trials have a record."""
    code = (
        "from pathlib import Path; from tests.stages.tune.test_search import ResourcesConfig, Session, on_ray, search; "
        f"on_ray(search(Path({str(packs)!r}), Path({str(folder)!r})), Session(ResourcesConfig(workers=2)))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    units = Units(folder / "units")
    while len(units.done()) < 3 and child.poll() is None:
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_ends_with_the_same_trials(
    packs: Path, tmp_path: Path, undisturbed: tuple[list[Trial], Path]
) -> None:
    _, folder = undisturbed
    shutil.copytree(folder, tmp_path / "run")
    # What a search leaves that was killed in its second rung: some trials done, some with a checkpoint, some not begun.
    units = tmp_path / "run" / "units"
    for name in os.listdir(units):
        if "-after-" not in name or name.endswith(("erm-1-after-2", "group-dro-4-after-2")):
            shutil.rmtree(units / name)
    assert looped(search(packs, tmp_path / "run")) == undisturbed[0]


def test_no_trial_is_trained_twice_and_its_seconds_count_once(packs: Path, tmp_path: Path) -> None:
    ran: list[str] = []

    class Counted(Quick):
        def trial(self, task: TrialTask, *more: Any, **others: Any) -> None:
            ran.append(task.unit)
            super().trial(task, *more, **others)

    tune = TUNE.model_copy(update={"methods": ("erm",), "grace_epochs": 4})
    one = search(packs, tmp_path, tune, Counted)
    trials = looped(one)
    short = [trial.number for trial in trials if trial.finished and f"erm-{trial.number}" not in ran]
    assert short and len(ran) == len(set(ran)) == 5 + sum(t.finished for t in trials) - len(short)
    records = [json.loads(path.read_text())["seconds"] for path in tmp_path.glob("units/*/trial.json")]
    assert sum(t.seconds for t in trials) == pytest.approx(sum(records)) and all(t.seconds > 0 for t in trials)
    assert one.seconds() == {"erm": pytest.approx(sum(records), abs=0.06)}, "in tenths"


def test_a_trial_killed_before_its_rung_is_on_record_goes_on_as_if_it_never_was(packs: Path, tmp_path: Path) -> None:
    tune = TUNE.model_copy(update={"methods": ("group-dro",), "trials": 1, "grace_epochs": 2})
    whole = looped(search(packs, tmp_path / "whole", tune))
    again = search(packs, tmp_path / "again", tune)
    (task,) = again._wave("group-dro", [0], [])
    for _ in range(2):
        # The checkpoint is there, the record is not.
        again.trial(replace(task, until=2), 1e9, lambda *told: None)
        shutil.rmtree(tmp_path / "again" / "units" / "group-dro-0-after-2")
    assert looped(again) == whole and whole[0].epochs == 6


@pytest.mark.slow
def test_the_seed_and_the_rule_decide(packs: Path, tmp_path: Path, undisturbed: tuple[list[Trial], Path]) -> None:
    other = TUNE.model_copy(update={"select": "accuracy", "methods": ("erm",)})
    loop = search(packs, tmp_path, other)
    trials = looped(loop)
    assert [t.setting for t in trials] == [t.setting for t in undisturbed[0][:5]]
    assert all(trial.accuracy == trial.promise[0] for trial in trials)
    assert replace(loop, seed=4)._wave("erm", [2], []) != loop._wave("erm", [2], [])


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["random", "optuna"])
def test_waves_go_on_where_they_were_interrupted(packs: Path, tmp_path: Path, algorithm: Any) -> None:
    tune = TUNE.model_copy(
        update={"search": algorithm, "wave": 2, "methods": ("erm",), "trials": 5, "worker_minutes": 60.0}
    )
    whole = looped(search(packs, tmp_path / "whole", tune))
    assert [trial.number for trial in whole] == list(range(5))
    again = search(packs, tmp_path / "again", tune)
    again._halved(again.run_rung(in_turn, 1e9), again._wave("erm", [0, 1], []))
    assert looped(again) == whole
    # The first wave is drawn alike, the later ones by what came of it.
    drawn = [again._wave("erm", [n], [])[0].setting for n in range(5)]
    same = [trial.setting == one for trial, one in zip(whole, drawn, strict=True)]
    assert same == ([True] * 5 if algorithm == "random" else [True, True, False, False, False])


@pytest.mark.slow
def test_no_wave_begins_once_the_time_is_used_up(packs: Path, tmp_path: Path) -> None:
    tune = TUNE.model_copy(update={"wave": 2, "methods": ("erm", "reweight"), "worker_minutes": 1e-6})
    trials = looped(search(packs, tmp_path, tune))
    again = looped(search(packs, tmp_path, tune))
    assert again == trials
    # With more time another wave; and it stays, though its own seconds would not have let it begin.
    more = tune.model_copy(update={"worker_minutes": sum(t.seconds for t in trials) / 60 + 1e-6})
    longer = [looped(search(packs, tmp_path, more)) for _ in range(2)]
    assert longer[0] == longer[1] and [t.number for t in longer[0]] == [0, 1, 2, 3] * 2
    # The same number for every method.
    assert [(trial.method, trial.number) for trial in trials] == [(m, n) for m in tune.methods for n in (0, 1)]


def test_data_that_a_method_cannot_use_are_told_as_such(packs: Path, tmp_path: Path, session: Session) -> None:
    """No matter of trying again: DFR has one validation image of each group, none to validate on."""
    shutil.copytree(packs, tmp_path / "packs")
    shutil.rmtree(tmp_path / "packs" / "pack-val")
    write_pack(tmp_path / "packs" / "pack-val", images((1,) * 4, 1))
    tune = TUNE.model_copy(update={"methods": ("erm", "dfr"), "trials": 1})
    with pytest.raises(DataError, match=r"^DFR cannot refit its linear layer: no group has two validation images"):
        on_ray(search(tmp_path / "packs", tmp_path, tune), session)
    # Nobody tried again, and the other method's trial is kept.
    assert not list((tmp_path / "ray").rglob("error.*"))
    assert [name for name in Units(tmp_path / "units").done() if "erm" in name]


@pytest.mark.slow
def test_trials_on_two_workers_each_are_those_of_one(packs: Path, tmp_path: Path) -> None:
    """Data parallel by Ray Train: the same draws and epochs, figures alike beyond rounding."""
    tune = TUNE.model_copy(update={"methods": ("group-dro",), "trials": 1, "grace_epochs": 99})
    config = RunConfig(resources=ResourcesConfig(workers=2, workers_per_classifier=2))
    with session_of(config.resources) as session:
        context, artifact = Context(config, tmp_path, session), Artifact(tmp_path, Identity("tune", 1, {}, {}))
        (found,) = search(packs, artifact.path, tune).run(lambda some: context.run_trials(artifact, some))
    (alone,) = looped(search(packs, tmp_path / "one", tune))
    assert (found.setting, found.epochs, found.finished) == (alone.setting, alone.epochs, True)
    assert found.accuracy == pytest.approx(alone.accuracy, abs=0.1)
    assert not list((artifact.path / "checkpoints").glob("*"))
