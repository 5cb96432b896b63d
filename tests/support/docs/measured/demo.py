"""What the pages say of the demo: its table, its search, its audit."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from tests.support.docs.measured.results import Json, bare, percent, result, row
from tests.support.docs.measured.text import said

PAPERS = "By the paper's policy, synthetic images first and the linear layer on real ones then, fairsynth reaches {}."


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    report = result("demo")["report"]
    return {
        "README.md": [*_front_page(report)],
        "docs/benchmarks.md": [*_search(report), *_papers()],
        "docs/synthetic-sets.md": [*_audit(report)],
        "docs/demo-models.md": [_flow()],
    }


def _flow() -> str:
    """The demo on both of its bases, one after the other."""
    both = result("demo_flow")
    seconds = {name: both[name]["seconds"] for name in ("demo", "demo-flow")}
    worst = {method["name"]: method["worst_group_accuracy"]["mean"] for method in both["demo-flow"]["methods"]}
    return said(
        "the first took {} s and the second {} s, {} times as long. In the worst group of the second, fairsynth has {}, "
        "Group-DRO {} and ERM {}: improved.",
        *(f"{seconds[name]:.0f}" for name in seconds),
        f"{seconds['demo-flow'] / seconds['demo']:.2f}",
        *(percent(worst[name]) for name in ("fairsynth", "group-dro", "erm")),
    )


def _front_page(report: Json) -> list[str]:
    titles = {"erm": "ERM", "group-dro": "Group-DRO", "fairsynth": "**fairsynth**"}
    rows, minus = [], {}
    for method in report["methods"]:
        wga, worst = method["worst_group_accuracy"], method["worst_group"]
        low, high = wga["ci95"]
        shown = percent(wga["mean"])
        cells = (
            f"**{shown}**" if method["name"] == "fairsynth" else shown,
            f"{bare(low)} – {percent(high)}",
            percent(method["accuracy"]["mean"]),
            f"{worst['label']}, {worst['attribute']} ({worst['n']})",
        )
        rows.append(row(titles[method["name"]], *cells))
        if "fairsynth_minus_this" in method:
            gap = method["fairsynth_minus_this"]
            minus[method["name"]] = [bare(value, 0) for value in (gap["mean"], *gap["ci95"])]
    train = {(g["label"], g["attribute"]): g["n"] for g in report["dataset"]["train"]}
    aligned = {
        label: train[label, where] / sum(n for (of, _), n in train.items() if of == label)
        for label, where in (("low", "building"), ("high", "flower"))
    }
    return [
        "\n".join(rows),
        said(
            "fairsynth is {} points above ERM ({} to {}, over seeds and test images) and {} above Group-DRO, which three "
            "seeds cannot tell from chance ({} to {}).",
            *minus["erm"],
            *minus["group-dro"],
        ),
        said(
            "In its training split of {} images, {} of the low digits lie on a building and {} of the high ones on a "
            "flower; each rare group has {} images.",
            str(sum(train.values())),
            percent(aligned["low"], 0),
            percent(aligned["high"], 0),
            str(min(train.values())),
        ),
        said(PAPERS, percent(_wga(0)["mean"])),
    ]


def _wga(number: int) -> Json:
    (method,) = result("demo_papers_policy")["runs"][number]["methods"]
    figure: Json = method["worst_group_accuracy"]
    return figure


def _papers() -> list[str]:
    intervals = [[bare(value) for value in _wga(number)["ci95"]] for number in (0, 1)]
    return [
        said("{} in the worst group ({} – {}).", percent(_wga(0)["mean"]), *intervals[0]),
        said(
            "With `learn` and `strong` in place of the last two, synthetic images first and the linear layer on real ones "
            "then, it is {} ({} – {}).",
            percent(_wga(1)["mean"]),
            *intervals[1],
        ),
    ]


def _search(report: Json) -> list[str]:
    """The policies' figures of validation images; the first six policies were tried."""
    parts = ("synthetic", "stage_2", "validation", "augmentation")
    known = {", ".join(policy[part] for part in parts): policy for policy in report["policies"]}
    order = (
        "none, none, learn, strong",
        "mix, none, learn, strong",
        "none, dfr, choose, strong",
        "none, group-dro, choose, strong",
        "none, none, choose, light",
        "none, none, learn, light",
    )
    chosen = report["settings"]["fairsynth"]
    assert ", ".join(chosen[part] for part in parts) == order[0]
    return [
        said(
            f"`{order[0]}`: real images alone, validation images among them, every group alike, strongly changed. By "
            "validation images that it had not seen its worst group was right in {}; with synthetic images among them "
            f"(`{order[1]}`) in {{}}, by DFR with strong changes in {{}}, by Group-DRO with them in {{}}, by ERM in {{}}, by "
            "the same as the choice with light changes in {}.",
            *(percent(known[policy]["worst_group_accuracy"]) for policy in order),
        )
    ]


def _audit(report: Json) -> list[str]:
    audit = report["audit"]
    groups = {(g["label"], g["attribute"]): g["fidelity"]["synthetic"] for g in audit["groups"]}
    told = sorted(g["detectability"]["auc"] for g in groups.values())
    recall = groups.pop(("high", "building"))["recall"]
    others = sorted(g["recall"] for g in groups.values())
    test = audit["copies"]["self_test"]
    assert test["detected"]["share"] == 1 and test["false_alarms"]["share"] == 0 and audit["copies"]["flagged"] == 0
    style = max(one["style"]["synthetic"]["auc"] for one in audit["shortcuts"])
    return [
        said(
            "It finds all of {} planted copies and takes none of {} held-out images for one.",
            str(test["detected"]["n"]),
            str(test["false_alarms"]["n"]),
        ),
        said(
            "(AUC {} to {}), and recall is {} for (high, building), {} to {} for the others.",
            *(f"{told[0]:.2f}", f"{told[-1]:.2f}", f"{recall:.1f}", f"{others[0]:.1f}", f"{others[-1]:.2f}"),
        ),
        said("look more real than those of (high, building) (AUC {}).", f"{style:.2f}"),
    ]


def validation_images() -> float:
    """Images of a group of the demo's validation split, on average."""
    return mean(group["n"] for group in result("demo")["report"]["dataset"]["val"])
