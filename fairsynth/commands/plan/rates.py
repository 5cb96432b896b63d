"""How fast stages are: measured in an earlier run of the same kind, else stated for a card, with its source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fairsynth.config import RunConfig

# A rate that was measured here was so under other conditions: other images, other load.
MEASURED_SPREAD = 1.5


@dataclass(frozen=True)
class Rate:
    """Pieces of work per second of one worker, and seconds until the first begins.

    ``spread``: the time may be so many times shorter or longer. ``measured``: in an earlier run, not stated.
    """

    per_second: float
    start: float
    spread: float
    source: str
    measured: bool = False


@dataclass(frozen=True)
class Stated:
    """What is shipped for a kind of machine and model: rates by stage, and bytes of what stages leave."""

    name: str
    machine: str
    rates: Mapping[str, Rate]
    sizes: Mapping[str, float]
    pixels: int
    """Side of the images that models saw when it was measured; 0: the time is not scaled."""


def stated(config: RunConfig) -> Stated:
    """The shipped figures that fit a config best: the demo's models on two cores, else Stable Diffusion 1.5 on an H100."""
    name = "demo" if config.models.diffusion == "demo" else "sd15"
    return _read()[name]


@cache
def _read() -> dict[str, Stated]:
    text = (resources.files("fairsynth") / "commands" / "plan" / "rates.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    found = {}
    for name, entry in content["sets"].items():
        rates = {
            stage: Rate(known["per_second"], known["start"], known["spread"], known["source"])
            for stage, known in entry["stages"].items()
        }
        found[name] = Stated(name, entry["machine"], rates, entry["bytes"], entry["pixels"])
    return found
