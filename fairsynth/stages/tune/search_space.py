"""The settings that the search tries for each method, with the field's ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fairsynth.classify.methods import numbers
from fairsynth.classify.policies import Policy, Setting, augmentations, policies, policy_of
from fairsynth.config import ClassifyConfig
from fairsynth.errors import ConfigError
from fairsynth.manifest import seed_for


class Range(NamedTuple):
    """The range of a value, drawn evenly, in its logarithm if ``logarithmic``; the first trials have the default."""

    default: float
    low: float
    high: float
    logarithmic: bool

    def at(self, share: float) -> float:
        """The value at a share from 0 to 1 of the range."""
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
# Where real and synthetic images are learnt from jointly, cross-entropy alone did better on validation images.
_JOINT = {**_SUPCON, "beta": Range(1.0, 0.3, 1.0, False)}
# The authors' choice for Waterbirds: as often within a label as within an attribute, blended; CelebA's are patched.
_LISA = {"within_label": Range(0.5, 0.0, 1.0, False), "cutmix": Range(0.0, 0.0, 1.0, False)}
# Wide enough for what the authors found best on CelebA (gamma 1.8, no lambda) and on Waterbirds (14 and 0.2).
_AFR = {"gamma": Range(4.0, 1.0, 20.0, True), "lambda": Range(0.01, 0.001, 0.4, True)}
_SPACES: dict[str, dict[str, Range]] = {
    "erm": _STAGE_1,
    "resample": _STRONG,
    "reweight": _STRONG,
    "group-dro": {**_STRONG, **_DRO},
    "jtt": {**_STRONG, "first_share": Range(0.5, 0.2, 0.8, False), "up_weight": Range(20.0, 5.0, 100.0, True)},
    "lff": _STAGE_1,
    "lisa": {**_STAGE_1, **_LISA},
    "dfr": _STAGE_1,
    "dfr-train": _STAGE_1,
    "afr": {**_STAGE_1, **_AFR},
    "ffr": {**_STAGE_1, **_FULL},
}
_STAGE_2: dict[str, dict[str, Range]] = {
    "last-layer": _HEAD,
    "full": _FULL,
    "group-dro": {**_HEAD, **_DRO},
    "dfr": {},
    "none": {},
}


def space(method: str, config: ClassifyConfig, policy: Policy | None = None) -> Mapping[str, Range]:
    """The numbers to search for a method, for fairsynth those of one policy. Raises KeyError for an unknown method."""
    if method != "fairsynth":
        return _SPACES[method]
    policy = policy or policies(config)[0]
    if policy.whole_group_dro:
        return _SPACES["group-dro"]
    supcon = {"none": {}, "pretrain": _SUPCON}.get(policy.synthetic, _JOINT)
    values = {**_STAGE_1, **supcon, **_STAGE_2[policy.stage_2]}
    return values if config.beta is None else {name: known for name, known in values.items() if name != "beta"}


# Shares of the epochs that a trial may run for: with fewer it may stop before it learns the shortcut.
_EPOCHS = (0.5, 0.75, 1.0)


def _turns(method: str, config: ClassifyConfig, left_open: Sequence[Policy]) -> list[Mapping[str, str]]:
    """The named choices of a method, which take turns: fairsynth's policies, for others how images change."""
    if method == "fairsynth":
        return [policy._asdict() for policy in left_open or policies(config)]
    return [{"augmentation": name} for name in augmentations(config)]


def setting(method: str, trial: int, config: ClassifyConfig, seed: int, left_open: Sequence[Policy] = ()) -> Setting:
    """The setting of a trial: the first of each named choice has the defaults, others draw each value.

    fairsynth's named choices are its policies, those that are ``left_open`` or else all of the config; those of other
    methods are how images change. A value's stream is keyed by (seed, method, trial, name), so adding a value leaves
    the others as they are.
    """
    turns = _turns(method, config, left_open)
    first, turn = trial < len(turns), turns[trial % len(turns)]
    drawn: dict[str, float] = {}
    for name, known in _space(method, config, turn).items():
        share = np.random.default_rng(seed_for(seed, method, trial, name)).uniform()
        drawn[name] = known.default if first else known.at(share)
    rng = np.random.default_rng(seed_for(seed, method, trial, "epochs"))
    return _whole(method, drawn, 1.0 if first else float(rng.choice(_EPOCHS)), config, turn)


def _space(method: str, config: ClassifyConfig, turn: Mapping[str, str]) -> Mapping[str, Range]:
    return space(method, config, policy_of(turn, config) if method == "fairsynth" else None)


def _whole(
    method: str, drawn: Mapping[str, float], share: float, config: ClassifyConfig, turn: Mapping[str, str]
) -> Setting:
    uses_beta = method == "fairsynth" and config.beta is not None and turn["synthetic"] != "none"
    fixed = {"beta": config.beta} if uses_beta and config.beta is not None else {}
    return {**drawn, **fixed, **turn, "epochs": max(1, round(config.pretrain_epochs * share))}


def suggested(
    method: str,
    places: Sequence[int],
    known: Sequence[tuple[Setting, float]],
    config: ClassifyConfig,
    seed: int,
    left_open: Sequence[Policy] = (),
) -> list[Setting]:
    """Settings of the next trials by Optuna's TPE (Bergstra et al. 2011), from earlier settings and their results.

    The same for the same ``known``. Raises ConfigError if Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "tune.search is optuna, which is not installed; pip install 'fairsynth[optuna]', or --tune.search random"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A seed for each wave: its first draws would otherwise be those of the wave before.
    sampler = optuna.samplers.TPESampler(seed=seed_for(seed, method, "tpe", *places) % 2**32, n_startup_trials=1)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    turns = _turns(method, config, left_open)
    for past, value in known:
        turn = {name: str(past[name]) for name in turns[0]}
        distributions = _distributions(method, config, turn, turns)
        share = min(_EPOCHS, key=lambda s: abs(s * config.pretrain_epochs - numbers(past)["epochs"]))
        values = {**past, "epochs": share, _TURN: _named(turn)}
        study.add_trial(
            optuna.trial.create_trial(
                params={name: values[name] for name in distributions}, distributions=distributions, value=value
            )
        )
    return [_asked(study, method, config, turns) for _ in places]


_TURN = "turn"  # Optuna's name of the named choice


def _named(turn: Mapping[str, str]) -> str:
    return " ".join(turn.values())


def _distributions(
    method: str, config: ClassifyConfig, turn: Mapping[str, str], turns: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """A named choice's values as Optuna knows them, and where there are several the choice itself."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    distributions: dict[str, Any] = {
        name: FloatDistribution(r.low, r.high, log=r.logarithmic) for name, r in _space(method, config, turn).items()
    }
    if len(turns) > 1:
        distributions[_TURN] = CategoricalDistribution([_named(one) for one in turns])
    return distributions | {"epochs": CategoricalDistribution(_EPOCHS)}


def _asked(study: Any, method: str, config: ClassifyConfig, turns: Sequence[Mapping[str, str]]) -> Setting:
    """The next setting: first a named choice, then its values."""
    trial, turn = study.ask(), turns[0]
    if len(turns) > 1:
        names = {_named(one): one for one in turns}
        turn = names[trial.suggest_categorical(_TURN, list(names))]
    drawn = {
        name: float(f"{trial.suggest_float(name, r.low, r.high, log=r.logarithmic):.4g}")
        for name, r in _space(method, config, turn).items()
    }
    return _whole(method, drawn, float(trial.suggest_categorical("epochs", _EPOCHS)), config, turn)
