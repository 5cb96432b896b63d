"""Trials that train alike are trained once, and each has the record that a training of its own would have given."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairsynth.artifacts import Units
from fairsynth.classify import training
from fairsynth.classify.methods import Plan, covers, phases
from fairsynth.config import ClassifyConfig, TuneConfig
from fairsynth.stages.tune import search as searching
from fairsynth.stages.tune.halving import Trial
from fairsynth.stages.tune.search import Search, TrialTask
from fairsynth.stages.tune.together import Wanted
from tests.support.searching import CLASSIFY, TUNE, looped, packs, write_pack
from tests.support.training import images

__all__ = ["packs"]

QUICK = CLASSIFY.model_copy(update={"pretrain_epochs": 3, "finetune_epochs": 1})
METHODS = ("erm", "group-dro", "dfr", "fairsynth")
MANY = TUNE.model_copy(update={"methods": METHODS, "trials": 6, "grace_epochs": 99})


@pytest.fixture(autouse=True)
def one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over few images strong changes take many passes an epoch, which teach these tests nothing."""
    monkeypatch.setattr("fairsynth.classify.passes.IMAGES_PER_EPOCH", 1)


def quick(packs: Path, folder: Path, tune: TuneConfig = MANY, config: ClassifyConfig = QUICK) -> Search:
    return Search(packs, Units(folder / "units"), config, tune, 3)


def alone(one: Search, monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The search's trials, each by a training of its own."""
    with monkeypatch.context() as patched:
        patched.setattr(searching, "together", lambda tasks, *told: [[task] for task in tasks])
        return looped(one)


def groups(one: Search) -> list[list[str]]:
    found = list[list[str]]()

    def look(work: Mapping[str, Any]) -> None:
        found.extend([[name, *(task.unit for task in each.keywords.get("also", ()))] for name, each in work.items()])
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        one.run(look)
    return found


def test_who_trains_alike(packs: Path, tmp_path: Path) -> None:
    """First trials have the middle of the search space: DFR, and two policies, are then ERM or Group-DRO at first."""
    shared = [{*names} for names in groups(quick(packs, tmp_path)) if len(names) > 1]
    assert {frozenset(names) for names in shared} == {
        frozenset({"dfr-1", "erm-1", "fairsynth-4"}),
        frozenset({"group-dro-1", "fairsynth-5"}),
        frozenset({"dfr-0", "erm-0"}),
    }
    # Those that end at rungs do not wait for others.
    tune = MANY.model_copy(update={"grace_epochs": 1})
    assert not any("erm" in name for names in groups(quick(packs, tmp_path, tune)) for name in names[1:])


def test_each_has_the_record_of_a_training_of_its_own(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = list[int]()
    inner = training.Training._epoch
    monkeypatch.setattr(training.Training, "_epoch", lambda run, loop: epochs.append(1) or inner(run, loop))
    apart = alone(quick(packs, tmp_path / "apart"), monkeypatch)
    count = len(epochs)
    shared = looped(quick(packs, tmp_path / "shared"))
    assert shared == apart and len(apart) == 4 * 6
    assert len(epochs) - count == count - 4 * 3, "four trials of three epochs went with others"
    assert all(trial.seconds > 0 for trial in shared)
    assert not list((tmp_path / "shared" / "checkpoints").glob("*"))


@pytest.mark.parametrize("killed_after", [1, 3])
def test_killed_and_resumed_equals_never_killed(packs: Path, tmp_path: Path, killed_after: int) -> None:
    tune = MANY.model_copy(update={"methods": ("erm", "dfr"), "trials": 1})

    def run(folder: Path, most: int) -> tuple[list[Trial], int]:
        one, seen, trials = quick(packs, folder, tune), list[int](), list[Trial]()

        def report(figures: Mapping[str, Any]) -> None:
            seen.append(figures["epoch"])
            if len(seen) > most:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            trials = one.run(lambda work: [trial(report, None) for trial in work.values()] and None, 0.0)
        return trials, len(seen)

    whole, count = run(tmp_path / "whole", 99)
    assert len(whole) == 2 and count == 4, "three epochs and a refit, once"
    assert run(tmp_path / "killed", killed_after)[0] == []
    assert run(tmp_path / "killed", 99)[0] == whole


def test_what_diverges_does_so_for_each(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "_setting", lambda one, method, number: SETTINGS[method])
    tune = MANY.model_copy(update={"methods": ("erm", "fairsynth"), "trials": 1})
    shared, apart = quick(packs, tmp_path / "shared", tune), quick(packs, tmp_path / "apart", tune)
    assert len(groups(quick(packs, tmp_path, tune))) == 1
    found = looped(shared)
    assert found == alone(apart, monkeypatch)
    assert [bool(trial.diverged) for trial in found] == [True, True]


RATES = {"epochs": 3, "learning_rate": 1e25, "weight_decay": 0.0, "augmentation": "light"}
SETTINGS = {
    "erm": RATES,
    "fairsynth": RATES | {"synthetic": "none", "stage_2": "dfr", "validation": "choose"},
}


def test_a_policy_that_the_data_forbid_leaves_the_others_alone(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halves of one label cannot refit a linear layer; ERM with the same training can be chosen."""
    shutil.copytree(packs, tmp_path / "packs")
    shutil.rmtree(tmp_path / "packs" / "pack-val")
    write_pack(tmp_path / "packs" / "pack-val", images((1, 0, 0, 1), 1))
    monkeypatch.setitem(SETTINGS, "erm", RATES | {"learning_rate": 1e-3})
    monkeypatch.setitem(SETTINGS, "fairsynth", SETTINGS["fairsynth"] | {"learning_rate": 1e-3})
    monkeypatch.setattr(Search, "_setting", lambda one, method, number: SETTINGS[method])
    tune = MANY.model_copy(update={"methods": ("erm", "fairsynth"), "trials": 1})
    found = looped(quick(tmp_path / "packs", tmp_path / "shared", tune))
    assert found == alone(quick(tmp_path / "packs", tmp_path / "apart", tune), monkeypatch)
    assert found[0].accuracy is not None and found[1].predicted is None and not found[1].diverged


@pytest.mark.parametrize("methods", [("dfr", "fairsynth"), ("fairsynth", "dfr")])
def test_dfr_has_all_images_where_fairsynths_halves_have_too_few(
    packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, str]
) -> None:
    """One image of a label is in one half alone; whichever of the two the training is named after."""
    shutil.copytree(packs, tmp_path / "packs")
    shutil.rmtree(tmp_path / "packs" / "pack-val")
    write_pack(tmp_path / "packs" / "pack-val", images((4, 4, 0, 1), 1))
    for name in ("dfr", "fairsynth"):
        monkeypatch.setitem(SETTINGS, name, SETTINGS.get(name, RATES) | {"learning_rate": 1e-3})
    monkeypatch.setattr(Search, "_setting", lambda one, method, number: SETTINGS[method])
    tune = MANY.model_copy(update={"methods": methods, "trials": 1})
    assert len(groups(quick(tmp_path / "packs", tmp_path, tune))) == 1
    found = looped(quick(tmp_path / "packs", tmp_path / "shared", tune))
    apart = alone(quick(tmp_path / "packs", tmp_path / "apart", tune), monkeypatch)
    assert found == apart
    assert {trial.method: trial.accuracy is None for trial in apart} == {"dfr": False, "fairsynth": True}


def test_only_the_same_way_on_real_training_images_is_covered() -> None:
    def plan(method: str, **values: Any) -> Plan:
        setting = {"epochs": 3, "learning_rate": 0.1, "weight_decay": 0.0, "augmentation": "light"} | values
        return Plan(phases(method, setting, QUICK), {k: v for k, v in setting.items() if not isinstance(v, str)})

    erm, dfr = plan("erm"), plan("dfr")
    assert covers(dfr, erm) and covers(erm, erm) and not covers(erm, dfr)
    assert not covers(plan("dfr", learning_rate=0.2), erm) and not covers(plan("dfr", augmentation="strong"), erm)
    dro = {"adjustment": 0.0, "step_size": 0.01}
    assert covers(plan("group-dro", **dro), plan("group-dro", **dro))
    assert not covers(plan("group-dro", **dro), plan("group-dro", **dro | {"step_size": 0.1}))
    ours = {"synthetic": "none", "stage_2": "none", "validation": "learn"}
    assert not covers(plan("fairsynth", **ours), plan("fairsynth", **ours)), "each half learns from another part"
    mixed = {"synthetic": "mix", "stage_2": "none", "validation": "choose", "beta": 1.0, "temperature": 0.1}
    assert not covers(plan("fairsynth", **mixed), plan("fairsynth", **mixed))


def test_a_task_up_to_a_rung_is_named_by_it() -> None:
    task = TrialTask("erm", 1, {}, 4)
    assert (task.unit, replace(task, until=0).unit) == ("erm-1-after-4", "erm-1")
    assert not Wanted("erm", 1, {"epochs": 3, "learning_rate": 0.1, "weight_decay": 0.0}, False).alone(QUICK)
