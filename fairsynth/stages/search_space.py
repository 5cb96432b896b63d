"""The settings that the search tries for each method, with the field's ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fairsynth.config import ClassifyConfig
from fairsynth.errors import ConfigError
from fairsynth.manifest import seed_for


class Range(NamedTuple):
    """Where a value is drawn from, evenly or, if ``logarithmic``, evenly in its logarithm; trial 0 has the default."""

    default: float
    low: float
    high: float
    logarithmic: bool

    def at(self, share: float) -> float:
        """The value at a share from 0 to 1 of the way."""
        value = (
            self.low * (self.high / self.low) ** share
            if self.logarithmic
            else self.low + (self.high - self.low) * share
        )
        return float(f"{value:.4g}")


_STAGE_1 = {"learning_rate": Range(1e-3, 3e-4, 5e-3, True), "weight_decay": Range(1e-3, 1e-5, 1e-1, True)}
# Reweighting and Group-DRO are known to need strong weight decay (Sagawa et al. 2020).
_STRONG = {**_STAGE_1, "weight_decay": Range(1e-3, 1e-5, 1.0, True)}
_DRO = {"step_size": Range(0.01, 0.001, 0.1, True), "adjustment": Range(0.0, 0.0, 4.0, False)}
_HEAD = {"head_learning_rate": Range(1e-3, 1e-4, 1e-2, True), "head_weight_decay": Range(1.0, 1e-2, 10.0, True)}
_FULL = {"full_learning_rate": Range(1e-3, 1e-5, 3e-3, True), "full_weight_decay": Range(1e-3, 1e-5, 1e-1, True)}
_SUPCON = {"beta": Range(0.5, 0.3, 1.0, False), "temperature": Range(0.1, 0.05, 0.3, True)}
_SPACES: dict[str, dict[str, Range]] = {
    "erm": _STAGE_1,
    "resample": _STRONG,
    "reweight": _STRONG,
    "group-dro": {**_STRONG, **_DRO},
    "jtt": {**_STRONG, "first_share": Range(0.5, 0.2, 0.8, False), "up_weight": Range(20.0, 5.0, 100.0, True)},
    "dfr": _STAGE_1,
    "dfr-train": _STAGE_1,
    "ffr": {**_STAGE_1, **_FULL},
}
_STAGE_2: dict[str, dict[str, Range]] = {
    "last-layer": _HEAD,
    "full": _FULL,
    "group-dro": {**_HEAD, **_DRO},
    "dfr": {},
}


def space(method: str, config: ClassifyConfig) -> Mapping[str, Range]:
    """What is searched for a method. Raises KeyError for an unknown one."""
    if method != "fairsynth":
        return _SPACES[method]
    second = _STAGE_2[config.stage_2] if config.synthetic == "pretrain" else {}
    supcon = _SUPCON if config.beta is None else {"temperature": _SUPCON["temperature"]}
    return {**_STAGE_1, **supcon, **second}


# Shares of the epochs that a trial may run for: fewer are a way to stop before the shortcut is learnt.
_EPOCHS = (0.5, 0.75, 1.0)


def setting(method: str, trial: int, config: ClassifyConfig, seed: int) -> Mapping[str, float]:
    """The setting of a trial: trial 0 has the defaults, every other draws each value from its own stream.

    A value's stream is keyed by (seed, method, trial, name), so adding a value leaves the others as they are.
    """
    drawn: dict[str, float] = {}
    for name, known in space(method, config).items():
        share = np.random.default_rng(seed_for(seed, method, trial, name)).uniform()
        drawn[name] = known.default if trial == 0 else known.at(share)
    rng = np.random.default_rng(seed_for(seed, method, trial, "epochs"))
    return _whole(method, drawn, 1.0 if trial == 0 else float(rng.choice(_EPOCHS)), config)


def _whole(method: str, drawn: Mapping[str, float], share: float, config: ClassifyConfig) -> Mapping[str, float]:
    fixed = {"beta": config.beta} if method == "fairsynth" and config.beta is not None else {}
    return {**drawn, **fixed, "epochs": max(1, round(config.pretrain_epochs * share))}


def suggested(
    method: str,
    numbers: Sequence[int],
    known: Sequence[tuple[Mapping[str, float], float]],
    config: ClassifyConfig,
    seed: int,
) -> list[Mapping[str, float]]:
    """Settings of the next trials by Optuna's TPE (Bergstra et al. 2011), from settings and what came of them.

    The same for the same ``known``, whoever asks. Raises ConfigError if Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "tune.search is optuna, which is not installed; pip install 'fairsynth[optuna]', or --tune.search random"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(r.low, r.high, log=r.logarithmic)
        for name, r in space(method, config).items()
    } | {"epochs": optuna.distributions.CategoricalDistribution(_EPOCHS)}
    # A seed for each wave: its first draws would otherwise be those of the wave before.
    sampler = optuna.samplers.TPESampler(seed=seed_for(seed, method, "tpe", *numbers) % 2**32, n_startup_trials=1)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for past, value in known:
        share = min(_EPOCHS, key=lambda s: abs(s * config.pretrain_epochs - past["epochs"]))
        values = {name: share if name == "epochs" else past[name] for name in distributions}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=value))
    asked = [study.ask(fixed_distributions=distributions).params for _ in numbers]
    return [
        _whole(method, {n: float(f"{v:.4g}") for n, v in a.items() if n != "epochs"}, float(a["epochs"]), config)
        for a in asked
    ]
