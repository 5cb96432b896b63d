"""Policies of fairsynth are judged by validation images that they have not seen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairsynth.artifacts import Units
from fairsynth.classify.packs import load_pack
from fairsynth.classify.policies import FEW, POLICIES, Policy, policy_of
from fairsynth.config import TuneConfig
from fairsynth.errors import DataError
from fairsynth.stages.tune.halving import Trial
from fairsynth.stages.tune.search import Search
from tests.support.searching import CLASSIFY, TUNE, looped, packs, search, write_pack
from tests.support.training import images

__all__ = ["packs"]

# How long a policy trains changes nothing of who judges it.
QUICK = CLASSIFY.model_copy(update={"pretrain_epochs": 2, "finetune_epochs": 1})


@pytest.fixture(autouse=True)
def one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over few images strong changes take many passes an epoch, which teach these tests nothing."""
    monkeypatch.setattr("fairsynth.classify.passes.IMAGES_PER_EPOCH", 1)


def quick(packs: Path, folder: Path, tune: TuneConfig) -> Search:
    """A search whose trials are short."""
    return Search(packs, Units(folder / "units"), QUICK, tune, 3)


def test_every_policy_is_judged_by_all_validation_images_none_of_which_it_has_seen(packs: Path, tmp_path: Path) -> None:
    tune = TUNE.model_copy(update={"methods": ("fairsynth",), "trials": 4})
    one = quick(packs, tmp_path, tune)
    trials = looped(one)
    assert [policy_of(t.setting, QUICK) for t in trials] == [*POLICIES[6:8], *POLICIES[:2]]
    validation = load_pack(packs / "pack-val")
    for trial in trials:
        assert trial.finished and trial.predicted is not None and {*trial.predicted} <= {0, 1}
        assert len(trial.predicted) == len(validation)
        right = np.array(trial.predicted) == validation.labels
        assert trial.accuracy == pytest.approx(right.mean())
        assert trial.worst_group_accuracy == pytest.approx(min(right[validation.groups == g].mean() for g in range(4)))
    assert one.best(trials, "fairsynth") in trials
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_without_synthetic_images_fairsynth_learns_from_real_ones(packs: Path, tmp_path: Path) -> None:
    shutil.copytree(packs, tmp_path / "packs", ignore=shutil.ignore_patterns("pack-synthetic*"))
    tune = TUNE.model_copy(update={"methods": ("fairsynth",), "trials": 2})
    trials = looped(quick(tmp_path / "packs", tmp_path, tune))
    assert {t.setting["synthetic"] for t in trials} == {"none"} and all(t.predicted for t in trials)


@pytest.mark.parametrize(
    ("stage_2", "validation", "killed_after", "epochs"),
    [("none", "learn", 2, 6), ("none", "learn", 5, 6), ("group-dro", None, 2, 3), ("dfr", None, 3, 4)],
)
def test_a_cross_fitted_trial_that_was_killed_goes_on_where_it_was(
    packs: Path,
    tmp_path: Path,
    stage_2: str,
    validation: str | None,
    killed_after: int,
    epochs: int,
) -> None:
    """Three epochs, twice where each half learns for itself, and one for a refit."""
    open_to = {"synthetic": "none", "stage_2": stage_2, "validation": validation}
    config = CLASSIFY.model_copy(update={"pretrain_epochs": 3, **open_to})
    tune = TUNE.model_copy(update={"methods": ("fairsynth",), "trials": 1})

    def run(folder: Path, most: int) -> list[int]:
        one, seen = Search(packs, Units(folder / "units"), config, tune, 3), list[int]()

        def report(figures: Mapping[str, Any]) -> None:
            seen.append(figures["epoch"])
            if len(seen) > most:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            one.run(lambda trials: [trial(report, None) for trial in trials.values()] and None, 0.0)
        return seen

    assert run(tmp_path / "whole", 99) == [*range(1, epochs + 1)]
    run(tmp_path / "killed", killed_after)
    run(tmp_path / "killed", 99)
    whole, killed = (
        json.loads((tmp_path / folder / "units" / "fairsynth-0" / "trial.json").read_text()) | {"seconds": 0}
        for folder in ("whole", "killed")
    )
    assert whole == killed
    assert not list((tmp_path / "killed" / "checkpoints").glob("*"))


def test_a_policy_that_the_data_forbid_is_passed_over_and_if_all_are_it_is_told(packs: Path, tmp_path: Path) -> None:
    """Halves of one label cannot refit a linear layer."""
    shutil.copytree(packs, tmp_path / "packs")
    shutil.rmtree(tmp_path / "packs" / "pack-val")
    write_pack(tmp_path / "packs" / "pack-val", images((1, 0, 0, 1), 1))
    config = CLASSIFY.model_copy(update={"pretrain_epochs": 1, "synthetic": "none", "augmentation": "light"})
    tune = TUNE.model_copy(update={"methods": ("fairsynth",), "trials": 4})
    one = Search(tmp_path / "packs", Units(tmp_path / "units"), config, tune, 3)
    trials = looped(one)
    by_stage = {policy_of(t.setting, config).stage_2: t for t in trials}
    assert by_stage["dfr"].predicted is None and by_stage["none"].predicted is not None
    assert one.best(trials, "fairsynth").predicted is not None
    with pytest.raises(DataError, match="too few validation images"):
        one.best([by_stage["dfr"]], "fairsynth")


def test_what_was_compared_is_on_record_in_order_with_each_policys_best_trial(packs: Path, tmp_path: Path) -> None:
    tune = TUNE.model_copy(update={"methods": ("fairsynth",), "trials": 1})
    one = search(packs, tmp_path, tune)

    def trial(number: int, policy: Policy, worst: float, known: bool = True) -> Trial:
        setting = {**policy._asdict(), "epochs": 1}
        return Trial(
            "fairsynth",
            number,
            setting,
            worst,
            worst,
            worst,
            (worst, worst),
            0,
            True,
            predicted=(0,) if known else None,
        )

    made = [
        trial(0, POLICIES[2], 0.4),
        trial(1, POLICIES[0], 0.5),
        trial(2, POLICIES[2], 0.6),
        trial(3, POLICIES[1], 0.9, False),
    ]
    found = one.compared(made)
    assert [Policy(**{part: entry[part] for part in Policy._fields}) for entry in found] == [POLICIES[0], POLICIES[2]]
    assert [entry["worst_group_accuracy"] for entry in found] == [0.5, 0.6]


@pytest.mark.parametrize(("sizes", "chosen"), [((40, 40, 40, 20), 1), ((40, 40, 40, 0), 0)])
def test_the_order_stands_where_a_group_that_is_learnt_has_no_validation_images(
    sizes: tuple[int, ...], chosen: int, packs: Path, tmp_path: Path
) -> None:
    shutil.copytree(packs, tmp_path / "packs")
    shutil.rmtree(tmp_path / "packs" / "pack-val")
    write_pack(tmp_path / "packs" / "pack-val", images(sizes, 1))
    labels = load_pack(tmp_path / "packs" / "pack-val").labels
    wrong = tuple(np.where(np.arange(len(labels)) % 3, 1 - labels, labels).tolist())
    trials = [
        Trial("fairsynth", number, policy._asdict(), 0.5, 0.5, 0.5, (0.5, 0.5), 0, True, predicted=predicted)
        for number, (policy, predicted) in enumerate(zip(POLICIES, (wrong, tuple(labels.tolist())), strict=False))
    ]
    one = search(tmp_path / "packs", tmp_path, TUNE.model_copy(update={"methods": ("fairsynth",)}))
    assert one.best(trials, "fairsynth").number == chosen


@pytest.mark.parametrize(("n", "first"), [(8, "styles"), (100, "strong")])
def test_few_images_of_a_group_in_training_and_validation_put_exchanged_styles_first(
    n: int, first: str, packs: Path, tmp_path: Path
) -> None:
    shutil.copytree(packs, tmp_path / "packs")
    shutil.rmtree(tmp_path / "packs" / "pack-val")
    write_pack(tmp_path / "packs" / "pack-val", images((n,) * 4, 1))
    assert np.bincount(load_pack(packs / "pack-train").groups).min() < FEW - 8, "fewer than so many in training alone"
    one = quick(tmp_path / "packs", tmp_path, TUNE.model_copy(update={"methods": ("fairsynth",)}))
    assert (*one.left_open[0],) == ("none", "none", "learn", first)
    (task,) = one._wave("fairsynth", range(1), [])
    assert task.setting["augmentation"] == first


def test_long_trials_begin_first(packs: Path, tmp_path: Path) -> None:
    """The search with fairsynth's trials on both halves: no worker is left with them when all others have ended."""
    tune = TUNE.model_copy(update={"methods": ("erm", "fairsynth"), "trials": 2, "grace_epochs": 9})
    one, orders = quick(packs, tmp_path, tune), list[list[str]]()

    def run(trials: Mapping[str, Any]) -> None:
        orders.append(list(trials))
        for trial in trials.values():
            trial(lambda figures: None, None)

    assert [trial.method for trial in one.run(run)] == ["erm", "erm", "fairsynth", "fairsynth"]
    # The first learns from real and validation images in both halves, the second from synthetic ones besides.
    assert orders == [["fairsynth-1", "fairsynth-0", "erm-0", "erm-1"]]
