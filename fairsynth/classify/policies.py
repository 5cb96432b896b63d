"""How fairsynth uses its images, synthetic and real: the policies that its search chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fairsynth.config.classify import Augmentation, ClassifyConfig, Stage2, Synthetic, ValidationUse

Setting = Mapping[str, float | str]
"""What the search decides for a training run: numbers by their names and, for fairsynth, its policy."""


class Policy(NamedTuple):
    """How fairsynth uses synthetic images, what it trains on real ones then, and how it uses and changes real ones."""

    synthetic: Synthetic
    stage_2: Stage2
    validation: ValidationUse = "choose"
    augmentation: Augmentation = "light"

    @property
    def whole_group_dro(self) -> bool:
        """Whether it is Group-DRO of everything: without synthetic images there is no first stage of another kind."""
        return self.synthetic == "none" and self.stage_2 == "group-dro"


# In the order in which the search tries them, and prefers them where the evidence is even: benchmarks/worlds, those to
# settle by. Ways without synthetic images are among them: DFR, Group-DRO and ERM too.
POLICIES = (
    Policy("none", "none", "learn", "strong"),
    Policy("mix", "none", "learn", "strong"),
    Policy("none", "dfr", "choose", "strong"),
    Policy("none", "group-dro", "choose", "strong"),
    Policy("none", "none", "choose", "light"),
    Policy("none", "none", "learn", "light"),
    Policy("none", "none", "learn", "styles"),
    Policy("mix", "none", "learn", "styles"),
    Policy("mix", "dfr", "choose", "light"),
    Policy("pretrain", "last-layer", "choose", "light"),
    Policy("none", "dfr", "choose", "light"),
    Policy("pretrain", "last-layer", "learn", "strong"),
    Policy("none", "group-dro", "choose", "light"),
    Policy("mix", "none", "learn", "light"),
)
# With fewer images of some group to learn from, exchanged styles come first. On the worlds to settle by, whose smallest
# groups have 5 to 76 images, they helped throughout (docs/worlds.md). They take longer; with more there is less to win.
FEW = 80
PAPERS = Policy("pretrain", "last-layer", "choose", "light")

USES: Mapping[Synthetic, str] = {
    "none": "learnt from real images alone",
    "pretrain": "learnt from synthetic images at first",
    "mix": "learnt from real and synthetic images together",
    "fill": "learnt from real images and synthetic ones that fill up the small groups",
}
STAGES_2: Mapping[Stage2, str] = {
    "last-layer": "then the linear layer from real images",
    "full": "then everything from real images",
    "group-dro": "then the linear layer from real images by Group-DRO",
    "dfr": "then the linear layer from balanced validation images, as DFR does",
    "none": "nothing after that",
}
_MORE = {
    "learn": "validation images among them, every group alike",
    "strong": "images strongly changed at random",
    "styles": "images strongly changed at random and their styles exchanged",
}


def in_words(policy: Policy) -> str:
    """A policy in words."""
    then = "by Group-DRO" if policy.whole_group_dro else STAGES_2[policy.stage_2]
    more = [words for part, words in _MORE.items() if part in policy]
    return ", ".join([USES[policy.synthetic], *more, f"{then} ({', '.join(policy)})"])


def augmentations(config: ClassifyConfig) -> tuple[Augmentation, ...]:
    """The ways to change images that a config leaves open, for every method."""
    if config.augmentation is not None:
        return (config.augmentation,)
    return ("light", "strong") if config.augment else ("light",)


def policies(config: ClassifyConfig, synthetic: bool = True) -> tuple[Policy, ...]:
    """The policies that a config leaves open, in order; if it names parts that no listed one has, one with these alone.

    ``synthetic``: whether there are synthetic images; without them only policies that use none are left. Strong changes
    and exchanged styles are left out where ``augment`` is off.
    """
    named = {part: getattr(config, part) for part in Policy._fields if getattr(config, part) is not None}
    fitting = tuple(policy for policy in POLICIES if named.items() <= policy._asdict().items())
    changed = config.augment or config.augmentation is not None
    fitting = tuple(policy for policy in fitting if changed or policy.augmentation == "light")
    then = "last-layer" if named.get("synthetic") == "pretrain" else "none"
    fitting = fitting or (Policy(**{"synthetic": "mix", "stage_2": then, **named}),)
    real = tuple(policy for policy in fitting if policy.synthetic == "none")
    return fitting if synthetic else real or (Policy(**{"stage_2": "none", **named, "synthetic": "none"}),)


def ordered(left_open: Sequence[Policy], smallest: int) -> tuple[Policy, ...]:
    """The policies in the order for data whose smallest group has so many images, training and validation together."""
    return tuple(sorted(left_open, key=lambda policy: smallest < FEW and policy.augmentation != "styles"))


def need_cross_fitting(left_open: Sequence[Policy]) -> bool:
    """Whether validation figures alone do not tell which setting is best: of several policies, or of one that learns."""
    return len(left_open) > 1 or any(policy.validation == "learn" for policy in left_open)


def policy_of(setting: Setting, config: ClassifyConfig) -> Policy:
    """The policy that a setting says, else the first that the config leaves open. Raises KeyError for another part."""
    if "synthetic" not in setting and "stage_2" not in setting:
        return policies(config)[0]
    parts = {part: str(setting[part]) for part in Policy._fields if part in setting}
    for part, value in parts.items():
        if getattr(config, part) not in (None, value):
            raise KeyError(f"{part}: {value}")
    return Policy(**parts)  # type: ignore[arg-type]
