"""How fairsynth uses synthetic and real images: the policies that its search chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairsynth.config.classify import ClassifyConfig, Stage2, Synthetic

Setting = Mapping[str, float | str]
"""What the search decides for a training run: numbers by their names and, for fairsynth, its policy."""


class Policy(NamedTuple):
    """How fairsynth uses synthetic images, and what it trains on real ones then."""

    synthetic: Synthetic
    stage_2: Stage2


# In the order in which the search tries them; the first one is the paper's.
POLICIES = (
    Policy("pretrain", "last-layer"),
    Policy("mix", "dfr"),
    Policy("pretrain", "dfr"),
    Policy("mix", "none"),
    Policy("pretrain", "full"),
    Policy("fill", "dfr"),
    Policy("pretrain", "group-dro"),
    Policy("fill", "none"),
)

# Validation images of the smallest group that policies are chosen by. Of 50 images at 80 % the standard error is 6
# points, of the half that validates a refit 8; policies were 10 to 20 apart. By 10 images the search chose badly.
ENOUGH = 50

USES: Mapping[Synthetic, str] = {
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


def in_words(policy: Policy) -> str:
    """A policy in words."""
    return f"{USES[policy.synthetic]}, {STAGES_2[policy.stage_2]} ({policy.synthetic}, {policy.stage_2})"


def policies(config: ClassifyConfig) -> tuple[Policy, ...]:
    """The policies that a config leaves open; if it sets both parts, that policy alone, whether listed or not."""
    if config.synthetic and config.stage_2:
        return (Policy(config.synthetic, config.stage_2),)
    return tuple(
        policy
        for policy in POLICIES
        if config.synthetic in (None, policy.synthetic) and config.stage_2 in (None, policy.stage_2)
    )


def rankable(left_open: Sequence[Policy], validation_groups_N: NDArray[np.int64]) -> tuple[Policy, ...]:
    """The policies that validation can rank: all, or the first alone where a group has too few validation images."""
    smallest = np.unique(validation_groups_N, return_counts=True)[1].min(initial=ENOUGH)
    return tuple(left_open) if smallest >= ENOUGH else tuple(left_open[:1])


def policy_of(setting: Setting, config: ClassifyConfig) -> Policy:
    """The policy that a setting says, else the first that the config leaves open. Raises KeyError for another."""
    left_open = policies(config)
    if "synthetic" not in setting and "stage_2" not in setting:
        return left_open[0]
    known: dict[tuple[object, ...], Policy] = {tuple(policy): policy for policy in left_open}
    return known[setting["synthetic"], setting["stage_2"]]
