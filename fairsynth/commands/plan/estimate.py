"""From work and rates to time and cost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairsynth.commands.plan.rates import Rate, Stated
from fairsynth.commands.plan.rows import Row
from fairsynth.config import RunConfig
from fairsynth.models.sources import is_demo


@dataclass(frozen=True)
class Workers:
    """How many workers a run has, and how that is known."""

    count: int
    why: str


@dataclass(frozen=True)
class Time:
    """Seconds of a stage on the clock: at least, likely, at most; and by which rate."""

    least: float
    likely: float
    most: float
    rate: Rate


def workers_of(config: RunConfig) -> Workers:
    """The workers of the config, else one for each GPU of this machine, else one for each core. No cluster is asked."""
    elsewhere = "; the cluster of RAY_ADDRESS is not asked" if os.environ.get("RAY_ADDRESS") else ""
    if config.resources.workers:
        return Workers(config.resources.workers, "resources.workers" + elsewhere)
    hint = "; say how many there will be: --resources.workers N"
    gpus = _gpus()
    if gpus:
        return Workers(gpus, f"the GPUs of this machine{elsewhere}{hint}")
    if is_demo(config.models.diffusion):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return Workers(max(1, cores // config.resources.threads), f"the cores of this machine{elsewhere}")
    return Workers(1, f"one GPU, because this machine has none{elsewhere}{hint}")


def _gpus() -> int:
    """GPUs of this machine that a program is allowed to see."""
    there = len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdecimal()])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if visible is None else min(there, len([name for name in visible.split(",") if name.strip()]))


def times(
    config: RunConfig,
    rows: Mapping[str, Row],
    left: Mapping[str, float],
    rates: Mapping[str, Rate],
    stated: Stated,
    n: int,
) -> dict[str, Time]:
    """The time of each stage. ``left``: the share of its work that is to be done; ``n`` workers."""
    found = {}
    for name, row in rows.items():
        rate = rates.get(name, stated.rates[name])
        scale = 1.0 if rate.measured else stated.scale(name, config.models.image_size)
        busy = max(1, min(n, row.side_by_side))
        seconds = left[name] * row.pieces * scale / (rate.per_second * busy)
        start = rate.start if left[name] else 0.0
        likely = start + seconds
        found[name] = Time(likely / rate.spread, likely, (start + seconds * row.most) * rate.spread, rate)
    return _within_budget(config, found, n)


def _within_budget(config: RunConfig, found: dict[str, Time], n: int) -> dict[str, Time]:
    """``tune.worker_minutes`` ends the search after the wave in which it is reached."""
    minutes, time = config.tune.worker_minutes, found["tune"]
    if minutes is None:
        return found
    wave = min(1.0, config.tune.wave / config.tune.trials)
    least, likely, most = (min(s, 60 * minutes / n + s * wave) for s in (time.least, time.likely, time.most))
    return found | {"tune": Time(least, likely, most, time.rate)}
