"""The report's first line: whether synthetic images were made and used, and what would help where they did not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairsynth.classify.policies import POLICIES
from fairsynth.config import ClassifyConfig
from fairsynth.groups import Group
from fairsynth.models.probe import Recognised
from fairsynth.stages.report.lines import use_lines
from fairsynth.stages.report.use import MOST, NO_HELP, first_line, use_of_images, used_as, would_help
from fairsynth.stages.synthesize.output import GroupRecord

LB, LF, HB, HF = (Group(label, attribute) for label in ("low", "high") for attribute in ("building", "flower"))
MIN_GROUP = 30


def record(group: Group, real: int, accepted: int = 300, **changed: Any) -> GroupRecord:
    """A group that was made, or with ``not_made`` one that was not."""
    facts: dict[str, Any] = {
        "group": group, "real": real, "quota": 300, "origin": "own", "route": "own", "why": "", "adapters": ("a",),
        "prompts": ("p",), "k": 1, "made": 400, "accepted": accepted, "rejected": {}, "probe_agreement_made": 0.9,
        "remark": "",
    }  # fmt: skip
    if changed.get("not_made"):
        facts |= {"origin": "none", "route": "none", "why": "why", "accepted": 0, "made": 0}
    return GroupRecord(**(facts | changed))


MADE = [record(HB, 15), record(HF, 292), record(LB, 278), record(LF, 15)]
NO_FLOWERS = [
    record(HB, 15), record(LB, 278),
    record(HF, 292, not_made="alike", why="made alike: (low, flower) cannot be shown"),
    record(LF, 15, not_made="trial", why="its trial batches do not show it"),
]  # fmt: skip
NOTHING = [record(group, 15, not_made="trial") for group in (HB, HF, LB, LF)]


def test_images_that_were_made_and_used() -> None:
    assert first_line("mix", MADE) == "Synthetic images were made and used: 1200 in all 4 groups."
    assert first_line("pretrain", NO_FLOWERS) == (
        "Synthetic images were made and used: 600 in 2 of 4 groups. The others have none: trial images do not show "
        "their group."
    )
    use = use_of_images("mix", MADE, MIN_GROUP)
    assert use["images"] == 1200 and use["used_as"] == "mix" and use["would_help"] == use["not_made"] == []


def test_images_that_did_not_help() -> None:
    assert NO_HELP == "Synthetic images did not help here: fairsynth's classifier learnt from real images alone."
    assert first_line("none", MADE) == first_line("none", NO_FLOWERS) == NO_HELP
    assert first_line("none", NOTHING) == (
        "There are no synthetic images. fairsynth's classifier learnt from real images alone. None were made: trial images "
        "do not show their group."
    )


def test_images_that_were_not_made_though_a_policy_wants_some() -> None:
    line = "There are no synthetic images. None were made: "
    assert first_line("mix", NOTHING) == first_line(None, NOTHING) == f"{line}trial images do not show their group."
    unknown = [record(group, 15, not_made="probe") for group in (HB, HF)]
    assert first_line("mix", unknown) == f"{line}the filter cannot tell whether images show their group."
    assert first_line("mix", [*unknown, *NOTHING[2:]]).endswith(
        "trial images do not show their group, or the filter cannot tell whether images show their group."
    )
    all_rejected = [record(HB, 15, accepted=0)]
    assert first_line("mix", all_rejected) == f"{line}the filter rejected all that were made."


def test_without_fairsynth_among_the_methods_it_is_said() -> None:
    assert first_line(None, MADE) == (
        "Synthetic images were made: 1200 in all 4 groups. fairsynth's classifier is not among the methods."
    )


def test_groups_that_want_no_images_do_not_count() -> None:
    none = {"quota": 0, "accepted": 0}
    filled = [record(HB, 15, 285), record(HF, 292, **none), record(LB, 0, **none, not_made="absent", why="")]
    assert first_line("fill", filled) == "Synthetic images were made and used: 285 in the only group."
    use = use_of_images("fill", filled, MIN_GROUP)
    assert use["not_made"] == use["would_help"] == []
    assert first_line("none", [record(HF, 292, **none)]) == (
        "There are no synthetic images. fairsynth's classifier learnt from real images alone. None were wanted."
    )


def test_what_would_help_names_the_group_its_images_and_how_many_are_needed() -> None:
    (help_,) = would_help(NO_FLOWERS, MIN_GROUP)
    assert help_ == (
        "More real training images of (low, flower), which has 15: with 30 it gets adapters of its own "
        "(cluster.min_group); or a base model that knows the words of its prompt (models.diffusion, synthesize.prompt)."
    )
    use = use_of_images("mix", NO_FLOWERS, MIN_GROUP)
    assert use["would_help"] == [help_]
    assert use["not_made"] == [
        "(high, flower): made alike: (low, flower) cannot be shown",
        "(low, flower): its trial batches do not show it",
    ]


def test_a_group_that_has_its_own_adapters_already_is_not_told_to_get_some() -> None:
    (help_,) = would_help([record(HF, 292, not_made="trial")], MIN_GROUP)
    assert "which has 292; or a base model" in help_ and "min_group" not in help_


def test_a_group_that_the_probe_does_not_know_needs_images_that_teach_it() -> None:
    (help_,) = would_help([record(HF, 12, not_made="probe", recognised=Recognised(24, 40))], MIN_GROUP)
    assert help_ == (
        "More real training images of (high, flower), which has 12, or more validation images of it: the filter's probe "
        "recognises 24 of 40; or a CLIP that sees the difference (models.clip)."
    )


def test_where_all_groups_were_made_but_did_not_help_it_is_the_small_ones_that_need_images() -> None:
    told = would_help(MADE, MIN_GROUP)
    assert [text.split(":")[0] for text in told] == [
        "More real training images of (high, building), which has 15",
        "More real training images of (low, flower), which has 15",
    ]
    assert all("with 30 it gets adapters of its own (cluster.min_group)." in text for text in told)
    # All have adapters of their own: the smallest group.
    assert would_help([record(HF, 292), record(LB, 278)], MIN_GROUP) == [
        "More real training images of (low, building), which has 278."
    ]
    assert use_of_images("none", MADE, MIN_GROUP)["would_help"] == told


def test_of_many_groups_the_smallest_are_told_and_the_others_counted() -> None:
    many = [record(Group(f"y{i}", "a"), 30 - i, not_made="trial") for i in range(MOST + 3)]
    told = would_help(many, MIN_GROUP)
    assert len(told) == MOST + 1 and told[-1] == "The same for 3 other groups."
    assert f"(y{MOST + 2}, a), which has {30 - MOST - 2}" in told[0]


def test_it_can_be_written_as_json_and_holds_no_other_text() -> None:
    for synthetic in ("none", "mix", None):
        for records in (MADE, NO_FLOWERS, NOTHING):
            use = use_of_images(synthetic, records, MIN_GROUP)
            assert json.loads(json.dumps(use, allow_nan=False)) == use
            assert set(use) == {"used_as", "images", "line", "not_made", "would_help"}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_chosen_policy_says_how_images_were_used(policy: Any) -> None:
    setting = {"synthetic": policy.synthetic, "stage_2": policy.stage_2, "epochs": 3}
    assert used_as(setting, ClassifyConfig()) == policy.synthetic
    fixed = ClassifyConfig(synthetic=policy.synthetic, stage_2=policy.stage_2)
    assert used_as({"epochs": 3}, fixed) == policy.synthetic
    assert used_as(None, fixed) is None


def test_the_first_line_is_printed_and_cannot_steer_the_terminal() -> None:
    use = {"line": "They did\x1b[2J not help.", "would_help": ["more\x07 images"]}
    lines = use_lines({"synthetic_images": use})
    assert len(lines) == 2 and all(line.isprintable() for line in lines)
    assert lines[0].startswith("They did") and lines[1].startswith("  more")


def test_the_evidence_stands_beside_images_that_did_not_help() -> None:
    def tried(synthetic: str, worst: float) -> dict[str, Any]:
        return {"synthetic": synthetic, "worst_group_accuracy": worst}

    policies = [tried("none", 0.9), tried("mix", 0.7), tried("pretrain", 0.81), tried("none", 0.955)]
    line = use_of_images("none", MADE, MIN_GROUP, policies)["line"]
    assert line.startswith(NO_HELP) and "without them was right in 95.5%, the best with them in 81.0%" in line
    assert "surely" not in line
    more = use_of_images("none", MADE, MIN_GROUP, [tried("none", 0.8), tried("mix", 0.82)])["line"]
    assert more.endswith("the best with them in 82.0%, but not surely enough to be chosen.")
    # Nothing to compare with, or images that are used: no word of it.
    for synthetic, compared in (("none", policies[:1]), ("mix", policies), ("none", [])):
        assert "right in" not in use_of_images(synthetic, MADE, MIN_GROUP, compared)["line"]
