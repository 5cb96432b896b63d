"""What the search and the final trainings cost: how many images go through a classifier, and how many steps it takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fairsynth.classify.methods import HALVES, Phase, phases, trainings
from fairsynth.classify.passes import passes
from fairsynth.classify.policies import Policy, Setting, need_cross_fitting, ordered, policies
from fairsynth.config import RunConfig
from fairsynth.groups import Group
from fairsynth.stages.tune.rungs import FACTOR, rungs
from fairsynth.stages.tune.search_space import setting
from fairsynth.stages.tune.together import Wanted, together

# A pass forward alone, beside one forward and backward.
_FORWARD = 1 / 3
_LINEAR = ("dfr", "dfr-train", "afr")
_AFR_MOST = 0.8


@dataclass(frozen=True)
class Images:
    """Images that classifiers see: real ones by split, synthetic ones, and those that fill small groups up."""

    train: int
    validation: int
    test: int
    synthetic: int
    filling: int
    smallest: int
    """Real ones of the smallest group, training and validation together."""


def smallest(*splits: Mapping[Group, int]) -> int:
    """Images of the smallest group in all these splits together; 0 if there is none."""
    whole = sum(map(Counter, splits), Counter[Group]())
    return min(whole.values(), default=0)


@dataclass(frozen=True)
class Cost:
    """Images that go through training (those that are only looked at count a third), and optimizer steps."""

    visits: float = 0.0
    steps: float = 0.0

    def plus(self, other: Cost, times: float = 1.0) -> Cost:
        """The sum with so many times another."""
        return Cost(self.visits + times * other.visits, self.steps + times * other.steps)


def search_cost(config: RunConfig, images: Images) -> Cost:
    """All trials of all methods; trials that fall out early are counted up to there."""
    total = Cost()
    for method in config.tune.methods:
        total = total.plus(_method_cost(config, method, images))
    for name, one in _served(config, images):
        total = total.plus(_training(config, name, one, images), -1)
    return total


def _served(config: RunConfig, images: Images) -> list[tuple[str, Setting]]:
    """Trials that another's training serves, where all trials run side by side to their ends."""
    if config.tune.search != "random" or config.tune.worker_minutes is not None:
        return []
    crossed = need_cross_fitting(_left_open(config, images))
    all_of = ((method, n) for n in range(config.tune.trials) for method in config.tune.methods)
    tasks = [(method, _setting(config, method, n, images)) for method, n in all_of]
    tasks.sort(key=lambda task: -len(phases(task[0], task[1], config.classify)))

    def wanted(task: tuple[str, Setting]) -> Wanted | None:
        method, one = task
        ours = method == "fairsynth" and crossed
        stops = [] if ours else rungs(phases(method, one, config.classify), config.tune.grace_epochs)
        return None if stops else Wanted(method, 0, one, ours)

    return [task for group in together(tasks, wanted, config.classify) for task in group[1:]]


def final_cost(config: RunConfig, images: Images) -> Cost:
    """The final trainings, each by the costliest setting that the search tries: nobody knows yet which it chooses."""
    total = Cost(visits=_FORWARD * images.test * len(config.tune.methods) * config.evaluate.seeds)
    for method in config.tune.methods:
        settings = (_setting(config, method, number, images) for number in range(config.tune.trials))
        costs = [_training(config, method, one, images) for one in settings]
        total = total.plus(max(costs, key=lambda cost: cost.visits), config.evaluate.seeds)
    return total


def _left_open(config: RunConfig, images: Images) -> tuple[Policy, ...]:
    return ordered(policies(config.classify, images.synthetic > 0), images.smallest)


def _setting(config: RunConfig, method: str, number: int, images: Images) -> Setting:
    left_open = _left_open(config, images) if method == "fairsynth" else ()
    return setting(method, number, config.classify, config.seed, left_open)


def _method_cost(config: RunConfig, method: str, images: Images) -> Cost:
    halves = method == "fairsynth" and need_cross_fitting(_left_open(config, images))
    settings = [_setting(config, method, number, images) for number in range(config.tune.trials)]
    total, trial = Cost(), _cross_fitted if halves else _training
    for one in settings:
        total = total.plus(trial(config, method, one, images))
    first = phases(method, settings[0], config.classify)
    stops = [] if halves else rungs(first, config.tune.grace_epochs)
    return Cost().plus(total, _kept(config, stops, first[0].epochs))


def _kept(config: RunConfig, stops: list[int], epochs: int) -> float:
    """The share of all epochs that are trained if only the best third goes on at each rung."""
    waves = config.tune.search != "random" or config.tune.worker_minutes is not None
    alive = min(config.tune.wave, config.tune.trials) if waves else config.tune.trials
    everyone, done, before = alive, 0.0, 0
    for stop in (*stops, epochs):
        done += alive * (stop - before)
        alive, before = math.ceil(alive / FACTOR), stop
    return done / (everyone * epochs)


def _cross_fitted(config: RunConfig, method: str, one: Setting, images: Images) -> Cost:
    its = trainings(phases(method, one, config.classify))
    known = replace(images, validation=images.validation * len(its[0]) // HALVES)
    return Cost().plus(_training(config, method, one, known), len(its))


def _training(config: RunConfig, method: str, one: Setting, images: Images) -> Cost:
    total = Cost()
    for phase in phases(method, one, config.classify):
        total = total.plus(_phase(config, phase, images))
    return total


def _phase(config: RunConfig, phase: Phase, images: Images) -> Cost:
    n, judged = _learnt(phase, images), _FORWARD * images.validation
    if phase.loss in _LINEAR:
        return Cost(_FORWARD * n + judged)
    repeats = passes(max(1, n), phase.styles) if phase.strong else 1
    steps = phase.epochs * repeats * math.ceil(n / config.classify.batch_size)
    # A frozen encoder looks at its images once.
    seen = _FORWARD * n if phase.head_only else phase.epochs * repeats * n
    return Cost(seen + phase.epochs * judged, steps)


def _learnt(phase: Phase, images: Images) -> int:
    real = images.train + (images.validation if phase.validation else 0)
    more = {"synthetic": images.synthetic - real, "mixed": images.synthetic, "filled": images.filling}
    if phase.images in ("most", "rest"):
        return round(real * (_AFR_MOST if phase.images == "most" else 1 - _AFR_MOST))
    return real + more.get(phase.images, 0)
