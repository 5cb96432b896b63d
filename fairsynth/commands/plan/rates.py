"""How fast stages are: measured in an earlier run of the same kind, else stated for a card, with its source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

from fairsynth.config import RunConfig
from fairsynth.models.families.family import Family
from fairsynth.models.hub.recognise import family_if_known
from fairsynth.models.sources import is_demo

# Stages whose time is that of the base model.
OF_MODELS = ("embed", "finetune", "synthesize")
# By so much more the time of a base model may differ on which nothing was timed.
_GUESSED = 1.5
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
    tflop: float = 0.0
    """Work of one pass of the network that was measured, forward, at that side."""
    work: Mapping[int, float] = field(default_factory=dict)
    """The same of the config's own base model, by side, in TFLOP; empty: it goes by the number of pixels."""

    def scale(self, stage: str, side: int) -> float:
        """How many times the measured seconds a stage takes for images of ``side`` pixels."""
        if not self.pixels or stage not in OF_MODELS:
            return 1.0
        if stage == "embed" or not self.work:
            return (side / self.pixels) ** 2
        near = min(self.work, key=lambda known: abs(known - side))
        return self.work[near] / self.tflop * (side / near) ** 2


def stated(config: RunConfig) -> Stated:
    """The shipped figures that fit a config best: the demo's models on two cores, else Stable Diffusion 1.5 on an H100.

    Those of other families of base models are the latter, scaled by the work of a pass of the network.
    """
    if is_demo(config.models.diffusion):
        return _read()["demo"]
    usual, family = _read()["sd15"], family_if_known(config.models)
    return usual if family is None or family.name == "sd" else _scaled(usual, family)


def _scaled(usual: Stated, family: Family) -> Stated:
    """The figures for a family on which nothing was timed."""
    known = _content()["families"].get(family.name, {"tflop": {}, "bytes": {}})
    how = "scaled by the work of a forward pass" if known["tflop"] else "taken as they are, for want of better ones"
    rates = {
        stage: replace(rate, spread=rate.spread * _GUESSED, source=f"{rate.source}; {how}: estimated")
        if stage in OF_MODELS
        else rate
        for stage, rate in usual.rates.items()
    }
    return replace(
        usual,
        name=family.name,
        machine=f"{usual.machine}, and for {family.title} {how}: estimated",
        rates=rates,
        sizes={**usual.sizes, **known["bytes"]},
        work={int(side): tflop for side, tflop in known["tflop"].items()},
    )


@cache
def _content() -> dict[str, Any]:
    text = (resources.files("fairsynth") / "commands" / "plan" / "rates.json").read_text("utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


@cache
def _read() -> dict[str, Stated]:
    found = {}
    for name, entry in _content()["sets"].items():
        rates = {
            stage: Rate(known["per_second"], known["start"], known["spread"], known["source"])
            for stage, known in entry["stages"].items()
        }
        found[name] = Stated(name, entry["machine"], rates, entry["bytes"], entry["pixels"], entry.get("tflop", 0.0))
    return found
