"""What a report says of the synthetic set, with the same text in every place that data can fill."""

from __future__ import annotations

from typing import Any

MADE: dict[str, Any] = {
    "way": "same-attribute",
    "why": "",
    "quota": 1300,
    "made": 1700,
    "probe_agreement_made": 0.7,
    "recognised": [71, 91],
}


def synthesis(text: str) -> dict[str, Any]:
    """Probe and trial batches."""
    counts = dict.fromkeys(("made", "both", "label", "attribute", "zero_shot_label", "zero_shot_attribute"), 5)
    return {
        "probe_right": {"label": 0.875, "attribute": None},
        "trials": [{"group": [text, text], "way": "own"} | counts],
    }


def audit(text: str, passed: bool = True) -> dict[str, Any]:
    """An audit of one group and one cluster."""
    shown = {by: {"label": 0.5, "attribute": 0.25, "both": 0.125} for by in ("probe", "zero_shot")}
    group, interval = {"label": text, "attribute": text}, {"auc": 0.61, "low": 0.6, "high": 0.62}
    figures = dict.fromkeys(("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"), 0.25)
    nearest = {"synthetic": 0.41, "held_out": 0.42}
    closer = {"share": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    usual = {"share": 0.45, "low": 0.4, "high": 0.5, "n": 80}
    rate = {"share": 0.96, "n": 300}
    return {
        "groups": [
            group
            | {
                "synthetic": 1234,
                "held_out": 77,
                "agreement": {"made": shown, "synthetic": shown | {"zero_shot": None}, "held_out": None},
                "fidelity": {"synthetic": figures | {"detectability": interval}, "held_out": None},
                "memorisation": {"closer_to_training": closer, "closer_real": usual, "nearest_ratio": nearest},
            }
        ],
        "clusters": [
            group
            | {"adapter": text, "cluster": 0, "synthetic": 1, "learnt": 2, "agreement": shown, "nearest_ratio": None}
            | {"fidelity": {"synthetic": figures, "held_out": None}}
        ],
        "shortcuts": [
            {
                "attribute": text,
                "label_from_generator": 0.5,
                "chance": 0.5,
                "style": {"label": text, "more_real": True, "synthetic": interval, "real": None},
            }
        ],
        "copies": {
            "self_test": {
                "passed": passed,
                "detected": rate,
                "false_alarms": rate,
                "by_kind": {"flipped": rate},
            },
            "images": 600,
            "training": 500,
            "training_images": 900,
            "flagged": 3,
        },
        "warnings": [text],
    }
