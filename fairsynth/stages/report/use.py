"""What became of the synthetic images, in words: whether they were made and used, which groups lack, what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairsynth.classify.policies import Setting, policy_of
from fairsynth.config import ClassifyConfig
from fairsynth.stages.synthesize.output import GroupRecord

# Groups that are told what they need, the smallest first: more lines are not read.
MOST = 8
NO_HELP = "Synthetic images did not help here: fairsynth's classifier learnt from real images alone."
NONE_MADE = "There are no synthetic images."
TOLD = "fairsynth was told to learn from real images alone (classify.synthetic)."


def used_as(setting: Setting | None, config: ClassifyConfig) -> str | None:
    """How fairsynth's chosen policy uses synthetic images; None without a setting: it is not among the methods."""
    return None if setting is None else policy_of(setting, config).synthetic


def use_of_images(
    synthetic: str | None, records: Sequence[GroupRecord], min_group: int, policies: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The part ``synthetic_images`` of report.json: ``line`` is the report's first.

    ``synthetic``: how the chosen policy of fairsynth uses the images, ``none`` for not at all, None if fairsynth is not
    among the methods. ``records``: of all groups. ``min_group``: images from which a group has adapters of its own.
    ``policies``: those that the search compared, with their figures.
    """
    left = _left_out(records)
    return {
        "used_as": synthetic,
        "images": sum(record.accepted for record in records),
        "line": first_line(synthetic, records) + evidence(synthetic, policies),
        "not_made": [f"{record.group}: {record.why}" for record in left],
        "would_help": would_help(records, min_group) if left or synthetic == "none" else [],
    }


def first_line(synthetic: str | None, records: Sequence[GroupRecord]) -> str:
    """Whether synthetic images were made and used, in a sentence or two."""
    wanted = [record for record in records if record.quota]
    others = [record for record in wanted if not record.accepted]
    n, there = sum(record.accepted for record in wanted), len(wanted) - len(others)
    if not n:
        none = f"None were made: {_because(others)}." if others else "None were wanted."
        return (
            f"{NONE_MADE} "
            + ("fairsynth's classifier learnt from real images alone. " if synthetic == "none" else "")
            + none
        )
    if synthetic == "none":
        return NO_HELP
    every = f"all {there} groups" if there > 1 else "the only group"
    groups = f"{n} in {f'{there} of {len(wanted)} groups' if others else every}."
    lacking = f" The others have none: {_because(others)}." if others else ""
    used = "made and used" if synthetic else "made"
    alone = "" if synthetic else " fairsynth's classifier is not among the methods."
    return f"Synthetic images were {used}: {groups}{lacking}{alone}"


def evidence(synthetic: str | None, policies: Sequence[Mapping[str, Any]]) -> str:
    """Where no synthetic image is used: how the best policy with them and the best without them compared."""
    best = {
        uses: max((p["worst_group_accuracy"] for p in policies if (p["synthetic"] != "none") == uses), default=None)
        for uses in (True, False)
    }
    if synthetic != "none" or None in best.values():
        return ""
    without, with_them = (float(best[uses] or 0) for uses in (False, True))
    unsure = ", but not surely enough to be chosen" if with_them > without else ""
    return (
        f" In the worst group of validation images that they had not seen, the best way without them was right in "
        f"{without:.1%}, the best with them in {with_them:.1%}{unsure}."
    )


def _because(records: Sequence[GroupRecord]) -> str:
    """Why groups have no images, for all of them together."""
    kinds = {record.not_made for record in records}
    told = {
        "trial": "trial images do not show their group",
        "unsure": "too many trial images do not show their group, and the filter would let some of them pass",
        "probe": "the filter cannot tell whether images show their group",
        "": "the filter rejected all that were made",
    }
    return ", or ".join(text for kind, text in told.items() if kind in kinds)


def would_help(records: Sequence[GroupRecord], min_group: int) -> list[str]:
    """What would let synthetic images help: of which groups more real images are needed, and how many there are.

    The smallest groups come first.
    """
    causes = [record for record in _left_out(records) if record.not_made != "alike"]
    borrowing = [record for record in records if record.quota and record.real < min_group]
    # With all groups made, it is those without adapters of their own that are made worst; else the smallest ones.
    needy = sorted(causes or borrowing or records, key=lambda record: (record.real, record.group))
    needy = needy if causes or borrowing else needy[:1]
    more = [f"The same for {len(needy) - MOST} other groups."] if len(needy) > MOST else []
    return [_help(record, min_group) for record in needy[:MOST]] + more


def _help(record: GroupRecord, min_group: int) -> str:
    there = f"More real training images of {record.group}, which has {record.real}"
    own = f": with {min_group} it gets adapters of its own (cluster.min_group)" if record.real < min_group else ""
    if record.not_made == "probe":
        right, judged = record.recognised
        return (
            f"{there}, or more validation images of it: the filter's probe recognises {right} of {judged}; "
            "or a CLIP that sees the difference (models.clip)."
        )
    if record.not_made in ("trial", "unsure"):
        return (
            f"{there}{own}; or a base model that knows the words of its prompt (models.diffusion, synthesize.prompt)."
        )
    return f"{there}{own}."


def _left_out(records: Sequence[GroupRecord]) -> list[GroupRecord]:
    """Groups with real images, or wanted without them, that were not made."""
    return [record for record in records if record.not_made not in ("", "absent")]
