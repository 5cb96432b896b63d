"""The card of the fair classifier, in the form that model hubs show: every number is one of ``report.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairsynth.classify.policies import STAGES_2, USES, policy_of
from fairsynth.config import RunConfig
from fairsynth.escaping import code, plain
from fairsynth.exports.terms import dataset_terms, model_terms, of_people, privacy
from fairsynth.models.sources import SMALL, public_name
from fairsynth.version import __version__

# From here on the card is about what was measured, whatever the classifier is written in.
MEASURED = "## How right it is"
_USE = """from transformers import pipeline

classify = pipeline("image-classification", model="classifier")
print(classify("photo.jpg"))"""
_VERDICTS = {
    "improved": "better than ERM (plain training), beyond chance over seeds and test images",
    "not improved": "not better than ERM (plain training)",
    "inconclusive": "not to be told from ERM (plain training) by these seeds and test images",
}


def classifier_card(report: Mapping[str, Any], image_size: int) -> str:
    """The card as Markdown, from the run's report (``report.json``); labels are shown and never obeyed."""
    config = RunConfig.model_validate(report["config"])
    ours = next(method for method in report["methods"] if method["name"] == "fairsynth")
    # Reports of earlier versions do not tell how the dataset was recognised.
    layout = str(report.get("data", {}).get("layout", config.data.format))
    lines = [
        "---", "library_name: transformers", "pipeline_tag: image-classification", "license: other",
        "license_name: inherited-to-be-confirmed", "tags:", "- fairsynth", "- fairness",
        *(["- sensitive"] if of_people(layout) else []), "---", "",
        "# An image classifier trained for its worst group", "",
        f"It tells {_labels(report)} apart. A group is a pair of label and attribute; the classifier was trained so that the "
        f"worst of them is as right as can be, by fairsynth {__version__}. It is the first of "
        f"{len(ours['seeds'])} trainings that the figures below are of (seed {report['seed']}).", "",
        "## How to use", "", "```python", _USE, "```", "",
        f"An image is scaled to {image_size} x {image_size} pixels by `preprocessor_config.json`. "
        "`fairsynth predict IMAGES --run RUN` writes a table, and with `--truth` the accuracy of each group of your own "
        "images; `fairsynth export RUN --format onnx` is for programs without PyTorch.", "",
        "For: images like those of its dataset, and comparisons of methods. Not for: decisions about people; labels or "
        "attributes that it was not trained for; images of other origin, before it was measured on some of them.", "",
        MEASURED, "",
        *_measured(report, ours), "",
        "## What it learned from", "",
        *(f"- {line}" for line in _learned(report, config)), "",
        "## Limits", "",
        *(f"- {line}" for line in _limits(report, ours, layout)), "",
        "## Licence", "",
        "fairsynth grants no licence to these weights. Whoever uses or publishes them has to confirm:", "",
        *(f"- {line}" for line in _terms(report, config, layout)),
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def _labels(report: Mapping[str, Any]) -> str:
    labels = sorted({group["label"] for group in report["dataset"]["train"]})
    shown = [plain(label) for label in labels[:20]]
    return ", ".join(shown[:-1]) + f" and {shown[-1]}" if len(labels) <= 20 else f"{len(labels)} labels"


def _measured(report: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    seeds = len(ours["seeds"])
    rows = [
        "| label | attribute | training images | test images | accuracy | 95 % interval |", "|" + "---|" * 6,
        *(_row(group, report) for group in ours["groups"]),
    ]  # fmt: skip
    figures = [
        f"| {name} | {_percent(ours[key]['per_seed'][0])} | {_percent(ours[key]['mean'])} | {_interval(ours[key]['ci95'])} |"
        for name, key in (("worst-group accuracy", "worst_group_accuracy"), ("accuracy", "accuracy"),
                          ("mean of the groups", "accuracy_group_mean"))
    ]  # fmt: skip
    return [
        f"On test images that no training saw. Of each group: the mean of {seeds} trainings, and Wilson's interval for that "
        "many images.", "", *rows, "",
        f"| | this classifier | mean of {seeds} trainings | 95 % interval over trainings |", "|---|---|---|---|", *figures, "",
        f"By the report's verdict it is {_VERDICTS.get(report['verdict'], plain(report['verdict']))}"
        + (f" ({plain(report['verdict_why'])})." if report.get("verdict_why") else "."),
    ]  # fmt: skip


def _row(group: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    trained = next((g["n"] for g in report["dataset"]["train"] if _name(g) == _name(group)), 0)
    cells = [group["label"], group["attribute"], trained, group["n"]]
    figures = [_percent(group["accuracy"]), _interval(group["ci95"])]
    return f"| {' | '.join([*map(plain, cells), *figures])} |"


def _name(group: Mapping[str, Any]) -> tuple[str, str]:
    return group["label"], group["attribute"]


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.1%}".replace("%", " %")


def _interval(ends: Sequence[float] | None) -> str:
    return "none" if ends is None else f"{_percent(ends[0])} to {_percent(ends[1])}"


def _learned(report: Mapping[str, Any], config: RunConfig) -> list[str]:
    policy = policy_of(report["settings"]["fairsynth"], config.classify)
    real, held = (sum(g["n"] for g in report["dataset"][split]) for split in ("train", "val"))
    made = [group for group in report["groups"] if group["accepted"]]
    synthetic = "no synthetic images"
    if policy.synthetic != "none":
        synthetic = f"{sum(g['accepted'] for g in made)} synthetic images in {len(made)} groups, made by fairsynth"
    then = "" if policy.stage_2 == "none" else f", {STAGES_2[policy.stage_2]}"
    began = "random weights" if config.classify.backbone == SMALL else code(public_name(config.classify.backbone))
    return [
        f"{real} real training images and {synthetic}: it {USES[policy.synthetic]}{then}.",
        f"{held} validation images: "
        + ("it learned from them, too." if policy.validation == "learn" or policy.stage_2 == "dfr"
           else "they chose its epoch and settings; it did not learn from them."),
        f"The network is a ResNet and began with {began}.",
    ]  # fmt: skip


def _limits(report: Mapping[str, Any], ours: Mapping[str, Any], layout: str) -> list[str]:
    empty = sum(group["accuracy"] is None for group in ours["groups"])
    few = [group for group in ours["groups"] if 0 < group["n"] < 100]
    return [
        "Measured on this dataset's own test split alone: other cameras, places or people may be classified worse.",
        "Fair means here: about as right in one group of this dataset as in another. Groups that the dataset does not name "
        "were not looked at.",
        f"Probabilities are not calibrated; the expected calibration error on test images is {ours['ece']['mean']:.3f}.",
        *([f"{empty} groups have no test images: nothing is known of them."] if empty else []),
        *([f"{len(few)} groups have fewer than 100 test images: see how wide their intervals are."] if few else []),
        *(["Attributes are clusters that were found, not given: a group may not be what its name says."]
          if report.get("discovered") else []),
        *map(plain, privacy(layout)),
    ]  # fmt: skip


def _terms(report: Mapping[str, Any], config: RunConfig, layout: str) -> list[str]:
    """What applies, as far as fairsynth knows; the base model's terms only where its images took part."""
    lines = [f"the rights in the dataset: {plain(dataset_terms(config, layout))};"]
    if config.classify.backbone != SMALL:
        lines.append(f"the licence of the weights that it began with, {code(public_name(config.classify.backbone))};")
    if policy_of(report["settings"]["fairsynth"], config.classify).synthetic != "none":
        base = model_terms(config)
        lines.append(
            f"the licence of the base model that made synthetic images, {code(base['model'])}: {plain(base['licence'])}. "
            f"Models trained on its images: {plain(base['trained'])};"
        )
    return [*lines[:-1], f"{lines[-1][:-1]}."]
