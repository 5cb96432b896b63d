"""What each method does, phase by phase; the figures of its setting come from the search.

Definitions: Group-DRO (Sagawa et al. 2020, arXiv 1911.08731), JTT (Liu et al. 2021, arXiv 2107.09044), LfF (Nam et al.
2020, arXiv 2007.02561), LISA (Yao et al. 2022, arXiv 2201.00299), DFR (Kirichenko et al. 2023, arXiv 2204.02937), AFR
(Qiu et al. 2023, arXiv 2306.11074), FFR (Qraitem et al. 2024, arXiv 2308.04553), fairsynth (arXiv 2511.08711).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from fairsynth.classify.dfr import REFITS
from fairsynth.classify.policies import Policy, Setting, policy_of
from fairsynth.config import ClassifyConfig
from fairsynth.config.classify import Synthetic

TITLES = {
    "erm": "ERM",
    "resample": "ReSample",
    "reweight": "ReWeight",
    "group-dro": "Group-DRO",
    "jtt": "JTT",
    "lff": "LfF",
    "lisa": "LISA",
    "dfr": "DFR",
    "dfr-train": "DFR (train)",
    "afr": "AFR",
    "ffr": "FFR",
    "fairsynth": "fairsynth",
}
HALVES = 2
"""Parts of the validation images, each of which judges trainings that had the others (``crossfit``)."""
# These learn from synthetic images.
SYNTHETIC = frozenset({"ffr", "fairsynth"})


def need_synthetic(methods: Sequence[str], config: ClassifyConfig) -> bool:
    """Whether some method learns from synthetic images: fairsynth does unless it is told to use none."""
    return any(name in SYNTHETIC and (name != "fairsynth" or config.synthetic != "none") for name in methods)


Loss = Literal["ce", "bounded", "reweight", "group-dro", "supcon", "lisa", "lff", "dfr", "dfr-train", "afr"]


@dataclass(frozen=True)
class Phase:
    """Some epochs with one loss, on one set of images.

    ``images``: mixed is real and synthetic in one set, filled the real ones and, of each group, the synthetic ones that
    it lacks to be as large as the largest; most and rest are AFR's two parts of the real ones. ``validation``: from
    validation images, too. ``sampling``: groups is with replacement, every group equally often; errors repeats each
    training image that the classifier got wrong when the phase began. ``strong``: images are changed strongly; ``styles``:
    and exchange their styles. ``averaged``: it ends with the running mean of the weights, and only that may be chosen.
    ``anew``: begins with a new classifier. ``selectable``: its epochs may be chosen. The losses dfr, dfr-train and afr are
    one refit of the linear layer; bounded is generalised cross-entropy of the large groups.
    """

    loss: Loss
    epochs: int
    learning_rate: float = 0.0
    weight_decay: float = 0.0
    images: Literal["train", "synthetic", "mixed", "filled", "most", "rest"] = "train"
    sampling: Literal["shuffled", "groups", "errors"] = "shuffled"
    validation: bool = False
    strong: bool = False
    styles: bool = False
    averaged: bool = False
    head_only: bool = False
    anew: bool = False
    selectable: bool = True
    stage: int = 1


class Plan(NamedTuple):
    """What a training does, and the figures that it does it with."""

    phases: Sequence[Phase]
    numbers: Mapping[str, float]


def numbers(setting: Setting) -> dict[str, float]:
    """The numeric values of a setting."""
    return {name: value for name, value in setting.items() if not isinstance(value, str)}


def phases(method: str, setting: Setting, config: ClassifyConfig) -> list[Phase]:
    """What a method does, in order. Raises KeyError for a setting without the method's values, or an unknown method."""
    if method == "fairsynth":
        found = _ours(numbers(setting), policy_of(setting, config), config)
    else:
        found = _theirs(method, numbers(setting), config)
    change = setting.get("augmentation", config.augmentation)
    strong, styles = change in ("strong", "styles"), change == "styles"
    return [phase if phase.head_only else _changed(phase, strong, styles) for phase in found]


def _changed(phase: Phase, strong: bool, styles: bool) -> Phase:
    """The same with changed images. A network that learns real images with exchanged styles, validation images among them,
    goes over them so often that it would learn wrong labels by heart: its loss is bounded.
    """
    real = phase.stage == 1 and phase.images == "train" and phase.validation
    loss: Loss = "bounded" if styles and real and phase.loss == "ce" else phase.loss
    return replace(phase, loss=loss, strong=strong, styles=styles)


def without_result(method: str, how: str) -> str:
    """What is told of a training that diverged before any of its epochs could be chosen."""
    more = "try more settings (tune.trials), or leave the method out (tune.methods)"
    return f"{TITLES[method]} diverged: {how}; {more}"


def cannot_refit(method: str, why: str) -> str:
    """What is told of a method whose linear layer these validation images cannot refit."""
    way = "give more validation images, or leave it out (tune.methods)"
    return f"{TITLES[method]} cannot refit its linear layer: {why}; {way}"


def trainings(its: Iterable[Phase]) -> list[tuple[int, ...]]:
    """The halves of validation images that each training of a cross-fitted trial is for.

    One for all, or where the network learns from validation images one for each.
    """
    halves = tuple(range(HALVES))
    return [(half,) for half in halves] if any(phase.validation for phase in its) else [halves]


def covers(one: Plan, other: Plan) -> bool:
    """Whether a training from the same images and seed has the other as its first part, whatever is chosen in it.

    Only of trainings on real training images, which all methods have alike.
    """
    firsts, values = one.phases[: len(other.phases)], other.numbers.items()
    own = {"train", "most", "rest"}
    return (
        [_unchosen(phase) for phase in firsts] == [_unchosen(phase) for phase in other.phases]
        and values <= one.numbers.items()
        and all(phase.images in own and not phase.validation for phase in one.phases)
    )


def _unchosen(phase: Phase) -> Phase:
    return replace(phase, selectable=True)


def _theirs(method: str, setting: Mapping[str, float], config: ClassifyConfig) -> list[Phase]:
    epochs, rates = int(setting["epochs"]), (setting["learning_rate"], setting["weight_decay"])
    if method == "jtt":
        first = max(1, round(epochs * setting["first_share"]))
        return [
            Phase("ce", first, *rates, selectable=False),
            Phase("ce", epochs, *rates, sampling="errors", anew=True, stage=2),
        ]
    if method in REFITS:
        return [Phase("ce", epochs, *rates, selectable=False), _refit(method)]
    if method == "afr":
        return [
            Phase("ce", epochs, *rates, images="most", selectable=False),
            Phase("afr", 1, images="rest", head_only=True, stage=2),
        ]
    if method == "ffr":
        return [
            Phase("ce", epochs, *rates, images="synthetic", selectable=False),
            _real_images("ce", setting, config, head_only=False),
        ]
    loss: Mapping[str, tuple[Loss, Literal["shuffled", "groups"]]] = {
        "erm": ("ce", "shuffled"),
        "resample": ("ce", "groups"),
        "reweight": ("reweight", "shuffled"),
        "group-dro": ("group-dro", "groups"),
        "lisa": ("lisa", "groups"),
        "lff": ("lff", "shuffled"),
    }
    chosen, sampling = loss[method]
    return [Phase(chosen, epochs, *rates, sampling=sampling)]


def _ours(setting: Mapping[str, float], policy: Policy, config: ClassifyConfig) -> list[Phase]:
    alone = policy.stage_2 == "none" or policy.whole_group_dro
    first = _first(setting, policy, alone)
    if alone:
        return [first]
    if policy.stage_2 == "dfr":
        return [first, _refit("dfr")]
    return [first, _second(policy, setting, config)]


def _first(setting: Mapping[str, float], policy: Policy, alone: bool) -> Phase:
    """What a policy trains first: everything."""
    images: Mapping[Synthetic, Literal["train", "synthetic", "mixed", "filled"]] = {
        "none": "train",
        "pretrain": "synthetic",
        "mix": "mixed",
        "fill": "filled",
    }
    loss: Loss = "group-dro" if policy.whole_group_dro else "ce" if policy.synthetic == "none" else "supcon"
    learns = policy.validation == "learn"
    return Phase(
        loss,
        int(setting["epochs"]),
        setting["learning_rate"],
        setting["weight_decay"],
        images[policy.synthetic],
        "groups" if learns or policy.whole_group_dro else "shuffled",
        validation=learns,
        # Figures of images that were learnt from choose no epoch.
        averaged=learns,
        selectable=alone,
    )


def _second(policy: Policy, setting: Mapping[str, float], config: ClassifyConfig) -> Phase:
    """What a policy trains then, on real images: the linear layer, or everything."""
    head_only, learns = policy.stage_2 != "full", policy.validation == "learn"
    # With frozen features SupCon has nothing left to train.
    loss: Loss = "group-dro" if policy.stage_2 == "group-dro" else "ce"
    return _real_images(
        loss, setting, config, head_only, "groups" if learns or loss == "group-dro" else "shuffled", learns
    )


def _real_images(
    loss: Loss,
    setting: Mapping[str, float],
    config: ClassifyConfig,
    head_only: bool,
    sampling: Literal["shuffled", "groups"] = "shuffled",
    learns: bool = False,
) -> Phase:
    names = ("head_learning_rate", "head_weight_decay") if head_only else ("full_learning_rate", "full_weight_decay")
    rate, decay = (setting[name] for name in names)
    return Phase(
        loss,
        config.finetune_epochs,
        rate,
        decay,
        sampling=sampling,
        validation=learns,
        averaged=learns,
        head_only=head_only,
        stage=2,
    )


def _refit(method: str) -> Phase:
    loss: Loss = "dfr" if method == "dfr" else "dfr-train"
    return Phase(loss, 1, head_only=True, stage=2)
