"""The trials as a table, and as a picture of their results on validation images, by method."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

from fairsynth.classify.epoch import Rule
from fairsynth.classify.methods import TITLES
from fairsynth.stages.tune.halving import Trial

_FIGURES = ("worst_group_accuracy", "worst_class_accuracy", "accuracy")
# Behind the setting, so that no column changes its place.
_LAST = ("diverged", "validation")


def to_csv(trials: Sequence[Trial], chosen: Collection[Trial]) -> str:
    """A line for each trial, and whether it is among the ``chosen``; values that a method lacks, and figures that a trial lacks, are empty.

    ``validation``: whether the figures are of images that the trial's trainings had not seen, or of images that chose its
    epoch (of DFR's, its strength): figures of the two kinds are not comparable.
    """
    names = sorted({name for trial in trials for name in trial.setting})
    titles = ["epochs to run" if name == "epochs" else name for name in names]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["method", "trial", *_FIGURES, "epochs", "finished", "chosen", "seconds", *titles, *_LAST])
    of_chosen = {(trial.method, trial.number) for trial in chosen}
    for trial in trials:
        figures = [getattr(trial, name) for name in _FIGURES]
        facts = [trial.epochs, trial.finished, (trial.method, trial.number) in of_chosen, trial.seconds]
        line = [trial.method, trial.number, *figures, *facts, *(trial.setting.get(name) for name in names)]
        line += [trial.diverged, "" if trial.accuracy is None else "chose" if trial.predicted is None else "unseen"]
        writer.writerow([_cell(value) for value in line])
    return sink.getvalue()


def note(trials: Sequence[Trial]) -> str:
    """Why validation figures of these methods cannot be compared with each other; empty where they can."""
    methods = {trial.method for trial in trials}
    unseen = {trial.method for trial in trials if trial.predicted is not None}
    of = list[str]()
    if unseen:
        of.append("fairsynth's figures are of validation images that its training, with the other half, had not seen")
    if "dfr" in methods:
        of.append("DFR's are of the half that chose its strength")
    if methods - unseen - {"dfr"}:
        of.append(f"{'the others' if of else 'all'} are of the images that chose their epochs")
    if any(trial.setting.get("synthetic", "none") != "none" for trial in trials):
        of.append("half of the images have taught the filter of fairsynth's images")
    if len(methods) < 2 or len(of) < 2:
        return ""
    return f"This compares the settings of a method, not methods: {'; '.join(of)}. Methods are compared on test images."


def _cell(value: object) -> object:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def draw(trials: Sequence[Trial], chosen: Collection[Trial], rule: Rule, target: Path) -> None:
    """Write the picture as a PNG: a dot per trial, in order of its number; those that fell out early are hollow."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods = list(dict.fromkeys(trial.method for trial in trials))
    figure, axes = pyplot.subplots(figsize=(max(5.0, 1.2 * len(methods) + 2), 4.2), dpi=120)
    for place, method in enumerate(methods):
        of_method = [trial for trial in trials if trial.method == method and trial.merit(rule)[0] >= 0]
        width = 0.7 / max(1, max((trial.number for trial in of_method), default=0))
        for whole, face in ((True, "#0072B2"), (False, "none")):
            some = [trial for trial in of_method if trial.finished == whole]
            places = [place - 0.35 + width * trial.number for trial in some]
            values = [100 * trial.merit(rule)[0] for trial in some]
            axes.scatter(places, values, s=22, facecolors=face, edgecolors="#0072B2", zorder=2)
    for trial in chosen:
        if trial.merit(rule)[0] >= 0:
            place = methods.index(trial.method)
            axes.hlines(100 * trial.merit(rule)[0], place - 0.4, place + 0.4, color="#D55E00", linewidth=1.5, zorder=1)
    axes.set_xticks(range(len(methods)), [TITLES[method] for method in methods], rotation=20, ha="right")
    axes.set_ylabel(
        f"{rule.replace('-', ' ')} accuracy\non validation images, %"
        if rule != "accuracy"
        else "accuracy on validation images, %"
    )
    axes.set_xlabel(textwrap.fill(note(trials), round(14 * figure.get_figwidth())), fontsize=7, loc="left")
    axes.set_ylim(0, 100)
    axes.set_title("trials in order; hollow: stopped early; line: the one chosen", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(target, format="png")
    pyplot.close(figure)
