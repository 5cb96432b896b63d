"""Figures of a run for Prometheus: Ray's agent on each node offers them at the node's metrics port."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

_MEANING = {
    "fairsynth_units_done": "Units that a stage has finished: adapters, batches of images, trials, trainings",
    "fairsynth_units_total": "Units that a stage is to make",
    "fairsynth_images": "Images that a stage looked at, by what became of them: used (accepted), excluded (rejected), quarantined",
    "fairsynth_failures": "Failures of this invocation after which work was tried again",
    "fairsynth_worker_hours": "Worker-hours of this invocation",
}


class Gauges:
    """Gauges in the driver. Until it is connected to Ray they are kept, and they never fail a run."""

    def __init__(self) -> None:
        self._gauges, self._values = dict[str, Any](), dict[tuple[str, tuple[tuple[str, str], ...]], float]()

    def put(self, name: str, value: float, **tags: str) -> None:
        """Set a gauge of ``_MEANING``; of one name the tags are always the same."""
        self._values[name, tuple(sorted(tags.items()))] = value
        self._set(name, value, tags)

    def again(self) -> None:
        """Set every gauge to its last value: Ray drops those that are not set for about a minute."""
        for (name, tags), value in list(self._values.items()):
            self._set(name, value, dict(tags))

    def _set(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        ray = sys.modules.get("ray")
        if ray is None or not hasattr(ray, "is_initialized") or not ray.is_initialized():
            return
        with suppress(Exception):  # a figure for people is no reason to stop
            if name not in self._gauges:
                from ray.util.metrics import Gauge

                self._gauges[name] = Gauge(name, _MEANING[name], tuple(tags))
            self._gauges[name].set(value, dict(tags) or None)
