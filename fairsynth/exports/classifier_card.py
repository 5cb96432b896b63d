"""The card of the fair classifier, in the form that model hubs show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairsynth.escaping import plain
from fairsynth.version import __version__

# From here on the card is about what was measured, whatever the classifier is written in.
MEASURED = "## How right it is"
_USE = """from transformers import pipeline

classify = pipeline("image-classification", model="classifier")
print(classify("photo.jpg"))"""


def classifier_card(report: Mapping[str, Any], image_size: int) -> str:
    """The card as Markdown, from the run's report (``report.json``)."""
    ours = next(method for method in report["methods"] if method["name"] == "fairsynth")
    seed = report["seed"]
    worst = ours["worst_group_accuracy"]
    lines = [
        "---", "library_name: transformers", "pipeline_tag: image-classification", "tags:", "- fairsynth", "---", "",
        "# A classifier trained for its worst group", "",
        f"Made by fairsynth {__version__} (seed {seed}, the first of its training seeds): a ResNet whose settings were chosen "
        "by the accuracy of the worst (label, attribute) group of validation images. "
        f"It reads images of {image_size} x {image_size} pixels; the preprocessing is in `preprocessor_config.json`.", "",
        "## How to use", "", "```python", _USE, "```", "",
        "Without Python: `fairsynth predict IMAGES --run RUN` writes a table.", "",
        MEASURED, "",
        f"Worst-group accuracy on test images, mean over {len(worst['per_seed'])} training seeds: {worst['mean']:.1%}; accuracy "
        f"{ours['accuracy']['mean']:.1%}. Verdict against ERM: {report['verdict']}.", "",
        "| label | attribute | test images | accuracy |", "|---|---|---|---|",
        *(_row(group) for group in ours["groups"]), "",
        "## Limits", "",
        "- Measured on this dataset's own test split alone: other cameras, places or people may be classified worse.",
        "- Fair means here: about as right in one group of this dataset as in another. Groups that the dataset does not name "
        "were not looked at.",
        "- Probabilities are not calibrated; expected calibration error on test images "
        f"{ours['ece']['mean']:.3f}.",
        "- The rights in the dataset, and the licence of the base model where synthetic images took part, apply.",
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def _row(group: Mapping[str, Any]) -> str:
    accuracy = "" if group["accuracy"] is None else f"{group['accuracy']:.1%}"
    return f"| {plain(group['label'])} | {plain(group['attribute'])} | {group['n']} | {accuracy} |"
