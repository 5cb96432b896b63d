"""A trial that diverges ends at once; its record says so, and the search goes on without it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from fairsynth.classify.policies import Setting
from fairsynth.stages.tune.picture import draw, to_csv
from fairsynth.stages.tune.search import Search
from tests.support.searching import TUNE, looped, packs, search

__all__ = ["packs"]


class Hot(Search):
    """Of each method the first trials' learning rates explode."""

    hot = 2

    def _setting(self, method: str, number: int) -> Setting:
        return {**super()._setting(method, number), **({"learning_rate": 1e25} if number < self.hot else {})}


def test_trials_that_diverge_are_on_record_and_never_chosen(packs: Path, tmp_path: Path) -> None:
    tune = TUNE.model_copy(update={"methods": ("group-dro", "jtt"), "trials": 3})
    one = search(packs, tmp_path, tune, Hot)
    trials = looped(one)
    for method in tune.methods:
        *hot, other = (trial for trial in trials if trial.method == method)
        for trial in hot:
            assert "in epoch 1, at learning rate 1e+25" in trial.diverged and trial.finished and trial.epochs == 0
            assert trial.worst_group_accuracy is None and trial.merit("worst-group") == (-1, -1)
        assert not other.diverged and one.best(trials, method) == other
    assert looped(search(packs, tmp_path, tune, Hot)) == trials, "found finished"
    lines = list(csv.DictReader(io.StringIO(to_csv(trials, []))))
    assert [bool(line["diverged"]) for line in lines] == [True, True, False] * 2
    assert lines[0]["worst_group_accuracy"] == ""
    draw(trials, [one.best(trials, "jtt")], "worst-group", tmp_path / "search.png")
    assert (tmp_path / "search.png").exists()


def test_a_trial_that_diverged_before_a_rung_is_not_trained_again(packs: Path, tmp_path: Path) -> None:
    class All(Hot):
        hot = 9

    tune = TUNE.model_copy(update={"methods": ("erm",), "trials": 2})
    trials = looped(search(packs, tmp_path, tune, All))
    assert [trial.number for trial in trials] == [0, 1] and all(trial.diverged for trial in trials)
    # Each has the record of its rung and that of its end.
    assert len(list((tmp_path / "units").glob("erm-*"))) == 4
    assert sum(trial.seconds > 0 for trial in trials) == 2
