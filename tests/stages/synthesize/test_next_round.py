"""What the next round makes: as much as is missing, by what was usable, and within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.config import FilterConfig
from fairsynth.groups import Group
from fairsynth.stages.synthesize.selection import (
    MOST_PER_MISSING,
    candidates_needed,
    missing,
    next_round,
    verdicts,
)
from tests.support.synthesize.verdicts import ALL, A, B, C, images, table


def test_what_is_missing_is_the_quota_less_what_was_accepted() -> None:
    made = images(A, [0.1, 0.2]) + images(B, [0.5] * 3)
    made[0]["constant"] = True
    quota = {A: 2, B: 3, C: 4}
    assert missing(table(made), verdicts(table(made), quota, ALL, None), quota) == {A: 1, C: 4}
    nothing = table([])
    assert missing(nothing, verdicts(nothing, {}, ALL, None), {A: 0, B: 1}) == {B: 1}


@pytest.mark.parametrize("percent", range(1, 101))
def test_candidates_are_just_enough(percent: int) -> None:
    # In whole numbers: .07 * 100 is above 7 and 100 * .29 below 29 when computed with fractions of two.
    counts = [*range(3000), *range(10**6, 10**6 + 100)]
    assert [candidates_needed(n, percent / 100) for n in counts] == [-(-n * 100 // percent) for n in counts]
    made, config = table(images(B, [0.0] * 100)), FilterConfig(keep=percent / 100)
    for quota, lacking in (({B: percent}, {}), ({B: percent + 1}, {B: 1})):
        assert missing(made, verdicts(made, quota, config, None), quota) == lacking


def after(group: Group, made: int, usable: int, quota: int, keep: float) -> dict[Group, int]:
    """What the next round makes, after one that made so many images, of which so many were usable."""
    rows = images(group, [0.5] * made)
    for row in rows[usable:]:
        row["constant"] = True
    found = verdicts(table(rows), {group: quota}, FilterConfig(keep=keep), None)
    return next_round(table(rows), found, {group: quota}, keep)


@pytest.mark.parametrize(
    ("made", "usable", "quota", "keep", "wanted"),
    [
        (100, 100, 75, 0.75, {}),  # enough by share and in number
        (100, 75, 75, 0.75, {}),
        (100, 70, 75, 0.75, {A: 8}),  # five lack, seven of ten are usable: 7.14
        (100, 50, 75, 0.75, {A: 50}),  # half of them
        (100, 30, 75, 0.75, {A: 150}),  # 45 lack, three of ten are usable
        (100, 25, 75, 0.75, {A: 200}),  # 50 lack, a quarter is usable: just 4 for each
        (100, 20, 75, 0.75, {A: 220}),  # 55 lack, a fifth is usable: 275, but 4 for each at most
        (100, 5, 75, 0.75, {A: 280}),  # 70 lack, a twentieth is usable: 1400
        (100, 1, 75, 0.75, {A: 296}),  # one is enough to go on
        (100, 0, 75, 0.75, {}),  # none of more than the quota: given up
        (75, 0, 75, 0.75, {}),
        (74, 0, 75, 0.75, {A: 300}),  # none of fewer than the quota: 4 for each
        (0, 0, 75, 0.75, {A: 300}),  # nothing was tried yet
        (90, 90, 75, 0.75, {A: 10}),  # all usable, but 67 of 90 are the best three quarters: 100 are to be made
        (90, 60, 75, 0.75, {A: 23}),  # by share 10, by usable ones 22.5
        (99, 99, 75, 0.75, {A: 1}),
        (10, 10, 11, 1.0, {A: 1}),
    ],
)
def test_the_next_round_makes_what_share_and_usable_rate_call_for(
    made: int, usable: int, quota: int, keep: float, wanted: dict[Group, int]
) -> None:
    assert after(A, made, usable, quota, keep) == wanted


# Fault case 36: the filter rejects whatever is made for a group.
@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 80), st.sampled_from((30, 75, 100)))
@settings(deadline=None, max_examples=60)
def test_the_next_round_is_bounded_and_covers_what_is_missing(made: int, usable: int, quota: int, percent: int) -> None:
    usable = min(made, usable)
    have = min(quota, percent * made // 100, usable)
    found = after(A, made, usable, quota, percent / 100)
    given_up = usable == 0 and made >= quota
    if have == quota or given_up:
        assert found == {}
        return
    wanted = found[A]
    assert 1 <= wanted <= MOST_PER_MISSING * (quota - have)
    if wanted < MOST_PER_MISSING * (quota - have):
        # With as many usable ones as before, both limits reach the quota.
        assert percent * (made + wanted) // 100 >= quota
        assert usable * (made + wanted) >= quota * made


def test_a_group_that_is_given_up_does_not_stop_the_others() -> None:
    made = images(A, [0.5] * 4) + images(B, [0.5] * 4) + images(C, [0.5] * 4)
    for row in made[:4] + made[8:]:
        row["constant"] = True
    quota = {A: 4, B: 6, C: 5}
    found = verdicts(table(made), quota, ALL, None)
    # Of A four of four are useless; of C as well, but five are wanted; of B two lack.
    assert next_round(table(made), found, quota, 1.0) == {B: 2, C: 20}


def test_a_next_round_is_for_groups_that_lack_images_alone() -> None:
    made = table(images(A, [0.5] * 4) + images(B, [0.5] * 2))
    quota = {A: 4, B: 4}
    assert next_round(made, verdicts(made, quota, ALL, None), quota, 1.0) == {B: 2}


def test_low_scores_do_not_count_against_the_usable_rate() -> None:
    # Ten made, all usable, four kept by share: the other six have low scores only.
    made = table(images(A, [0.5] * 10))
    found = verdicts(made, {A: 5}, FilterConfig(keep=0.4), None)
    assert found.to_pylist().count("accepted") == 4
    assert next_round(made, found, {A: 5}, 0.4) == {A: 3}  # 13 times 0.4 is 5.2; 12 times it 4.8
