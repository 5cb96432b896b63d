"""What the pages say of the worlds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import mean, median

from scipy import stats

from tests.support.docs.measured.results import Json, around, bare, percent, result, row
from tests.support.docs.measured.text import said

WGA, OURS = "worst_group_accuracy", "real images alone"
RIVALS = {
    ("99 %", "balanced"): "worlds_rivals_99",
    ("99 %", "biased"): "worlds_rivals_99_biased",
    ("99.9 %", "balanced"): "worlds_rivals_999",
    ("99.9 %", "biased"): "worlds_rivals_999_biased",
}


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    tables = [
        *_table("worlds", rivals_around=True),
        *_table("worlds_95"),
        *_table("worlds_biased"),
        *_table("worlds_99_biased"),
        *_table("worlds_95_biased"),
        *_table("worlds_95_biased_styles"),
        *_table("worlds_90"),
        *_table("worlds_95_whole"),
    ]
    severe = [one["differences"][WGA] for one in result("worlds_rivals_999_biased")["beside"]]
    mean_gap = said(
        "nowhere more than 2 below, but {} points above on average and not {}",
        bare(_over_worlds(severe)["mean"], 0),
        "15",
    )
    biased = [*_behind(), said("Above the {} points that were aimed at on average", "15")]
    return {"docs/worlds.md": [*tables, *biased, _rivals(), mean_gap, _styles(), *_sets()]}


def _pairs(name: str) -> dict[str, list[int]]:
    """By world, how many points fairsynth is ahead of the better rival in each repetition."""
    rows = {(one["dataset"], one["variant"] or one["method"]): one["figures"][WGA] for one in result(name)["rows"]}
    gaps = dict[str, list[int]]()
    for world in (world for world, way in rows if way == OURS):
        ours, dfr, dro = ([value for (value,) in rows[world, way]["values"]] for way in (OURS, "dfr", "group-dro"))
        gaps[world] = [round(100 * (own - best)) for own, best in zip(ours, map(max, dfr, dro), strict=True)]
    return gaps


def _behind() -> list[str]:
    """In how many repetitions with biased validation fairsynth is ahead of the better rival; and by how much it was before."""
    gaps, earlier = _pairs("worlds_biased"), _pairs("worlds_biased_short")
    pairs = [gap for found in gaps.values() for gap in found]
    behind = {world: [-gap for gap in found if gap < 0] for world, found in gaps.items() if min(found) < 0}
    assert (len(pairs), sum(gap > 0 for gap in pairs)) == (15, 13)
    ((world, points),) = behind.items()
    before = mean(gap for world, found in gaps.items() for gap in earlier[world][: len(found)])
    first, second = map(str, points)
    return [
        said(f"Behind in two, of `{world}`, by {{}} points and {{}} point", first, second),
        said("was {} points ahead in the same repetitions", bare(before / 100, 1)),
    ]


def _styles() -> str:
    """The table of exchanged styles beside strong changes alone, for as long and for a quarter of it."""
    ways = ("strong", "strong, four times as long", "styles")
    cells = {(one["dataset"], one["variant"]): one["figures"] for one in result("worlds_styles")["rows"]}
    lines, gaps = [], dict[str, list[float]](worst_group_accuracy=[], accuracy=[])
    for world in (world for world, variant in cells if variant == "styles"):
        strong, _, styles = its = [cells[world, way] for way in ways]
        for figure, found in gaps.items():
            found.append(styles[figure]["mean"] - strong[figure]["mean"])
        last = (bare(found[-1], 1, "+") for found in gaps.values())
        lines.append(row(f"`{world}`", *(bare(one[WGA]["mean"]) for one in its), *last))
    means = (bare(mean(cells[world, way][WGA]["mean"] for world, of in cells if of == way)) for way in ways)
    lines.append(row("mean", *means, *(bare(mean(found), 1, "+") for found in gaps.values())))
    return "\n".join(lines)


def _rivals() -> str:
    """The table of four rivals, of one repetition each."""
    lines = []
    for (severity, validation), name in RIVALS.items():
        content = result(name)
        rows = {(one["dataset"], one["variant"] or one["method"]): one["figures"][WGA] for one in content["rows"]}
        for beside in content["beside"]:
            world, gaps = beside["dataset"], beside["differences"]
            methods = ("group-dro", "dfr", "afr", "lisa", OURS)
            figures = (bare(rows[world, method]["mean"]) for method in methods)
            gap = [bare(gaps[figure]["mean"], 1, "+") for figure in (WGA, "accuracy")]
            lines.append(row(severity, validation, f"`{world}`", *figures, *gap))
        over = (_over_worlds([one["differences"][figure] for one in content["beside"]]) for figure in (WGA, "accuracy"))
        lines.append(row(severity, validation, "mean", "", "", "", "", "", *(_gap(one) for one in over)))
    return "\n".join(lines)


def _table(name: str, rivals_around: bool = False) -> list[str]:
    """A table of one bias; of a single repetition it has no intervals, and names the bias in each row."""
    content = result(name)
    rows = {(one["dataset"], one["variant"] or one["method"]): one["figures"][WGA] for one in content["rows"]}
    single = content["beside"][0]["over"] == "a single pair"

    def accuracy(difference: Json) -> str:
        return bare(difference["mean"], 1, "+") if single else _gap(difference)

    lines = []
    for beside in content["beside"]:
        world, gaps = beside["dataset"], beside["differences"]
        rivals = (rows[world, method] for method in ("group-dro", "dfr"))
        ours = rows[world, beside["variant"]]
        lines.append(
            row(
                f"`{world}`",
                *([beside["severity"]] if single else []),
                *(around(one) if rivals_around else bare(one["mean"]) for one in rivals),
                bare(ours["mean"]) if single else around(ours),
                _gap(gaps[WGA]),
                accuracy(gaps["accuracy"]),
            )
        )
    over = [
        _over_worlds([beside["differences"][figure] for beside in content["beside"]]) for figure in (WGA, "accuracy")
    ]
    empty = [""] * (4 if single else 3)
    # The first table says of both what its interval is over.
    more = ", over worlds" if rivals_around else ""
    return ["\n".join([*lines, row("mean", *empty, f"{_gap(over[0])}, over worlds", accuracy(over[1]) + more)])]


def _gap(difference: Json) -> str:
    if difference["ci95"] is None:
        return f"{bare(difference['mean'], 1, '+')}, a single pair"
    low, high = difference["ci95"]
    return f"{bare(difference['mean'], 1, '+')} ({bare(low, 1, '+')} to {bare(high, 1, '+')})"


def _over_worlds(differences: Sequence[Json]) -> Json:
    """Mean and Student's interval over worlds."""
    values = [difference["mean"] for difference in differences]
    low, high = stats.t.interval(0.95, len(values) - 1, mean(values), stats.sem(values))
    return {"mean": mean(values), "ci95": (low, high)}


def _sets() -> list[str]:
    worlds = {(one["world"], one["severity"]): one["groups"] for one in result("world_sets")["results"]}
    amber = next(group for group in worlds["tint", 0.999] if group["group"] == "(closed, amber)")
    shown = [re.findall(r"(\d+)% by the shared adapter", group["why"]) for group in worlds["tint", 0.99]]
    shares = sorted({int(share) for found in shown for share in found})
    told = [group["told"]["autoencoded"] for groups in worlds.values() for group in groups if group.get("told")]
    return [
        "\n".join(
            _made(world, severity, group)
            for (world, severity), groups in worlds.items()
            for group in groups
            if not group["not_made"]
        ),
        _not_made({"tint": [0.999]}, "the other two", worlds),
        _not_made({"thickness": [0.99, 0.999]}, "all four", worlds),
        said("the shared adapter {} to {} %.", str(shares[0]), str(shares[-1])),
        said("Beside images that did, the median is {}.", f"{median(told):.2f}"),
        said("and of {} the filter kept {}.", f"{amber['made']:,}", str(amber["accepted"])),
    ]


def _made(world: str, severity: float, group: Json) -> str:
    return row(
        f"`{world}`",
        f"{100 * severity:g} %",
        group["group"].strip("()"),
        str(group["real"]),
        "shared adapter",
        f"{group['accepted']} of {group['quota']}",
        percent(group["right"], 0),
        *(f"{group['told'][how]:.2f}" for how in ("real", "autoencoded")),
    )


def _not_made(
    which: Mapping[str, Sequence[float]], title: str, worlds: Mapping[tuple[str, float], Sequence[Json]]
) -> str:
    """The row of groups that were not made, with their reasons."""
    ((world, severities),) = which.items()
    groups = [group for severity in severities for group in worlds[world, severity] if group["not_made"]]
    assert len(groups) == len(severities) * {"the other two": 2, "all four": 4}[title]
    real = ", ".join(str(n) for n in sorted({group["real"] for group in groups})) if title == "the other two" else ""
    reasons = ", ".join(sorted({group["not_made"] for group in groups}, key=["trial", "probe", "alike"].index))
    levels = ", ".join(f"{100 * severity:g} %" for severity in severities)
    return row(f"`{world}`", levels, title, real, f"not made: {reasons}", "", "", "", "")
