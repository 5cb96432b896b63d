"""The settings that the search tries for each method, with the field's ranges."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fairsynth.config import ClassifyConfig
from fairsynth.manifest import seed_for

# name: (default, low, high, logarithmic)
_STAGE_1 = {"learning_rate": (1e-3, 3e-4, 5e-3, True), "weight_decay": (1e-3, 1e-5, 1e-1, True)}
SPACES: dict[str, dict[str, tuple[float, float, float, bool]]] = {
    "erm": _STAGE_1,
    "group-dro": {**_STAGE_1, "weight_decay": (1e-3, 1e-5, 1.0, True), "step_size": (0.01, 0.001, 0.1, True)},
    "fairsynth": {
        **_STAGE_1,
        "beta": (0.5, 0.3, 1.0, False),
        "temperature": (0.1, 0.05, 0.3, True),
        "head_learning_rate": (1e-3, 1e-4, 1e-2, True),
        "head_weight_decay": (1.0, 1e-2, 10.0, True),
    },
}


def setting(method: str, trial: int, config: ClassifyConfig, seed: int) -> Mapping[str, float]:
    """The setting of a trial: trial 0 has the defaults, every other draws each value from its own stream.

    A value's stream is keyed by (seed, method, trial, name), so adding a value leaves the others as they are.
    """
    drawn: dict[str, float] = {}
    for name, (default, low, high, logarithmic) in SPACES[method].items():
        u = np.random.default_rng(seed_for(seed, method, trial, name)).uniform()
        value = low * (high / low) ** u if logarithmic else low + (high - low) * u
        drawn[name] = default if trial == 0 else float(f"{value:.4g}")
    share = (
        1.0 if trial == 0 else np.random.default_rng(seed_for(seed, method, trial, "epochs")).choice([0.5, 0.75, 1.0])
    )
    return {**drawn, "epochs": max(1, round(config.pretrain_epochs * float(share)))}
