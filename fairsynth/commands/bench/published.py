"""Figures that others published for the datasets of the presets, to stand beside one's own: none was measured here."""

from __future__ import annotations

from typing import NamedTuple

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config

SOURCE = (
    "arXiv 2511.08711, as its authors' project page prints them; no intervals given; protocol and averages not stated"
)


class Published(NamedTuple):
    """Worst-group accuracy and average of groups, in percent."""

    method: str
    severity: str
    worst_group_accuracy: float
    average: float


def _rows(original: str, severe: str) -> tuple[Published, ...]:
    """From ``method WGA/average`` lists at the two levels of the paper."""
    rows = []
    for severity, text in (("original", original), ("99.9 %", severe)):
        for part in text.split("; "):
            method, _, figures = part.rpartition(" ")
            wga, average = map(float, figures.split("/"))
            rows.append(Published(method, severity, wga, average))
    return tuple(rows)


TABLES: dict[str, tuple[Published, ...]] = {
    "waterbirds": _rows(
        "ERM 63.7/88.0; FFR 69.5/84.0; vanilla 74.6/80.5; lora 86.5/89.9; dreambooth 89.3/90.1; "
        "clustered-dreambooth 88.1/90.2; Group-DRO 91.4/93.5; SELF 93.0/94.0",
        "ERM 29.0/66.7; FFR 57.3/84.2; vanilla 69.9/80.1; lora 61.5/84.0; dreambooth 82.4/88.3; "
        "clustered-dreambooth 84.2/88.5; Group-DRO 23.5/65.5; SELF 25.5/64.2",
    ),
    "celeba": _rows(
        "ERM 47.8/94.9; FFR 68.9/85.7; vanilla 76.4/84.2; lora 82.3/87.2; dreambooth 82.1/87.9; "
        "clustered-dreambooth 84.1/88.4; Group-DRO 88.9/92.9; SELF 83.9/91.1",
        "ERM 31.7/67.3; FFR 22.8/47.7; vanilla 77.1/84.7; lora 73.5/83.2; dreambooth 78.8/84.6; "
        "clustered-dreambooth 81.8/85.9; Group-DRO 27.2/75.2; SELF 45.6/95.4",
    ),
    "utkface": _rows(
        "ERM 74.3/84.5; FFR 67.4/81.4; vanilla 62.0/83.3; lora 68.6/85.6; dreambooth 57.9/80.9; "
        "clustered-dreambooth 76.0/83.5; Group-DRO 81.6/85.9; SELF 65.9/82.3",
        "ERM 31.0/48.9; FFR 55.0/68.0; vanilla 67.8/82.7; lora 64.5/82.4; dreambooth 66.9/77.1; "
        "clustered-dreambooth 60.5/80.8; Group-DRO 30.5/50.3; SELF 0.6/50.5",
    ),
}


def published_for(config: RunConfig) -> tuple[Published, ...]:
    """Figures of others for the same question: the preset's labels and attributes."""
    if config.data.format not in TABLES:
        return ()
    known = load_config(None, config.data.format).data
    same = all(getattr(config.data, n) == getattr(known, n) for n in ("label_column", "attribute_column", "options"))
    return TABLES[config.data.format] if same else ()
