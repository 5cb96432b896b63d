"""What fairsynth's search chooses among."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from fairsynth.classify.methods import phases
from fairsynth.classify.policies import (
    FEW,
    PAPERS,
    POLICIES,
    Policy,
    in_words,
    need_cross_fitting,
    ordered,
    policies,
    policy_of,
)
from fairsynth.config import ClassifyConfig
from fairsynth.config.classify import Augmentation, Stage2, Synthetic, ValidationUse
from fairsynth.stages.tune.search_space import setting


def test_what_the_config_says_is_not_searched() -> None:
    assert policies(ClassifyConfig()) == POLICIES
    assert policies(ClassifyConfig(stage_2="dfr")) == tuple(p for p in POLICIES if p.stage_2 == "dfr")
    assert policies(ClassifyConfig(validation="learn", augmentation="light")) == tuple(
        p for p in POLICIES if p[2:] == ("learn", "light")
    )
    # No listed policy has these: the rest is as simple as can be.
    assert policies(ClassifyConfig(synthetic="mix", stage_2="full")) == (Policy("mix", "full", "choose", "light"),)


def test_the_papers_policy_is_the_first_of_what_its_two_parts_name() -> None:
    left = policies(ClassifyConfig(synthetic="pretrain", stage_2="last-layer"))
    assert left[0] == PAPERS and {policy[:2] for policy in left} == {PAPERS[:2]}
    assert policies(ClassifyConfig(**PAPERS._asdict())) == (PAPERS,)
    assert not need_cross_fitting([PAPERS])


def test_ways_without_synthetic_images_are_among_them() -> None:
    """ERM, Group-DRO and DFR on the same backbone."""
    assert {Policy("none", stage_2, "choose", "light") for stage_2 in ("none", "group-dro", "dfr")} <= {*POLICIES}


def test_without_synthetic_images_only_what_needs_none_is_left() -> None:
    left = policies(ClassifyConfig(), synthetic=False)
    assert left == tuple(p for p in POLICIES if p.synthetic == "none") and len(left) > 3
    assert policies(ClassifyConfig(stage_2="dfr"), synthetic=False) == tuple(p for p in left if p.stage_2 == "dfr")
    # Something is left that has what was asked for, and can be trained.
    for named in ({"stage_2": "last-layer"}, {"stage_2": "full"}, {"validation": "learn", "stage_2": "dfr"}):
        config = ClassifyConfig(**named)  # type: ignore[arg-type]
        (only,) = policies(config, synthetic=False)
        assert only.synthetic == "none" and named.items() <= only._asdict().items()
        assert phases("fairsynth", setting("fairsynth", 0, config, 0, [only]), config)


def test_what_is_pretrained_on_synthetic_images_sees_real_ones_then() -> None:
    config = ClassifyConfig(synthetic="pretrain", validation="learn", augmentation="light")
    assert policies(config) == (Policy("pretrain", "last-layer", "learn", "light"),)


def test_images_that_are_not_to_change_do_not_change_strongly() -> None:
    assert {p.augmentation for p in policies(ClassifyConfig(augment=False))} == {"light"}
    assert {p.augmentation for p in policies(ClassifyConfig(augment=False, augmentation="strong"))} == {"strong"}


def test_a_setting_says_its_policy_or_none_and_no_other() -> None:
    config = ClassifyConfig(synthetic="mix")
    assert policy_of({"epochs": 3}, config) == policies(config)[0]
    assert policy_of({"synthetic": "mix", "stage_2": "none"}, config) == Policy("mix", "none")
    assert policy_of({"synthetic": "mix", "stage_2": "dfr", "augmentation": "strong"}, config)[3] == "strong"
    with pytest.raises(KeyError):
        policy_of({"synthetic": "fill", "stage_2": "none"}, config)


def test_what_learns_from_validation_is_cross_fitted_and_so_are_several() -> None:
    assert need_cross_fitting(POLICIES[:2]) and need_cross_fitting([Policy("none", "none", "learn")])
    assert not need_cross_fitting([Policy("none", "none")])


def test_exchanged_styles_come_first_where_a_group_has_few_images() -> None:
    few, many = ordered(POLICIES, FEW - 1), ordered(POLICIES, FEW)
    # They take four times as long: six trials, as many as the demo has, leave them out where there are synthetic images.
    assert many == POLICIES and {policy.augmentation for policy in POLICIES[:6]} == {"light", "strong"}
    assert few == (*POLICIES[6:8], *POLICIES[:6], *POLICIES[8:]) and few[0] == Policy("none", "none", "learn", "styles")
    assert few[2] == POLICIES[0], "the same without them is tried soon"


def test_every_policy_has_words() -> None:
    parts = [get_args(part) for part in (Synthetic, Stage2, ValidationUse, Augmentation)]
    texts = {in_words(Policy(*each)) for each in product(*parts)}
    assert len(texts) == 4 * 5 * 2 * 3 and not any("None" in text for text in texts)
