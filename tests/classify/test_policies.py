"""What fairsynth's search chooses among, and which of it validation can rank."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from fairsynth.classify.policies import POLICIES, Policy, in_words, policies, policy_of, rankable
from fairsynth.config import ClassifyConfig
from fairsynth.config.classify import Stage2, Synthetic


def test_what_the_config_says_is_not_searched() -> None:
    assert policies(ClassifyConfig()) == POLICIES
    assert policies(ClassifyConfig(stage_2="dfr")) == tuple(p for p in POLICIES if p.stage_2 == "dfr")
    assert policies(ClassifyConfig(synthetic="mix", stage_2="full")) == (Policy("mix", "full"),)


def test_a_setting_says_its_policy_or_none_and_no_other() -> None:
    config = ClassifyConfig(synthetic="mix")
    assert policy_of({"epochs": 3}, config) == ("mix", "dfr")
    assert policy_of({"synthetic": "mix", "stage_2": "none"}, config) == ("mix", "none")
    with pytest.raises(KeyError):
        policy_of({"synthetic": "fill", "stage_2": "none"}, config)


@pytest.mark.parametrize(
    ("sizes", "all_of_them"), [((50, 50, 90), True), ((90, 49, 90), False), ((60, 0, 60), True), ((), True)]
)
def test_policies_are_chosen_among_only_by_groups_of_enough_images(sizes: tuple[int, ...], all_of_them: bool) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    assert rankable(POLICIES, groups) == (POLICIES if all_of_them else POLICIES[:1])
    # One that was asked for stays.
    only = (Policy("fill", "dfr"),)
    assert rankable(only, groups) == only


def test_every_policy_has_words() -> None:
    texts = {in_words(Policy(synthetic, stage_2)) for synthetic in get_args(Synthetic) for stage_2 in get_args(Stage2)}
    assert len(texts) == 15
