"""The report's tables: titles and cells as text, which the page lays out as a table, or as cards on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fairsynth.classify.methods import TITLES

NONE = "–"
_FEW = 12
SPLITS = {"train": "training", "val": "validation", "test": "test"}


class Table(NamedTuple):
    """A table. Titles that begin with a tab are of columns of numbers."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Each title, and whether its column is of numbers."""
        return [(title.lstrip("\t"), title.startswith("\t")) for title in self.titles]


def percent(value: float | None) -> str:
    """A share in percent."""
    return NONE if value is None else f"{value:.1%}"


def name(entry: Mapping[str, Any]) -> str:
    """A group's name."""
    return f"{entry['label']}, {entry['attribute']}"


def results(report: Mapping[str, Any]) -> Table:
    """Every figure of every method."""
    figures = {
        "accuracy": "\taccuracy",
        "accuracy_group_mean": "\tgroup mean",
        "accuracy_train_prior": "\ttraining prior",
        "equalized_odds_difference": "\tequalised odds difference",
        "ece": "\tcalibration error",
    }
    titles = [
        "method",
        "\tworst-group accuracy",
        "\t95 % interval over seeds",
        "worst group (test images)",
        *figures.values(),
    ]
    rows = []
    for method in report["methods"]:
        wga, worst = method["worst_group_accuracy"], method["worst_group"]
        between = f"{percent(wga['ci95'][0])} to {percent(wga['ci95'][1])}" if wga["ci95"] else "one seed"
        cells = [percent(method[figure]["mean"]) if figure in method else NONE for figure in figures]
        rows.append([_title(method), percent(wga["mean"]), between, f"{name(worst)} ({worst['n']})", *cells])
    return Table("Test figures of every method, mean over its seeds", titles, rows)


def _title(method: Mapping[str, Any]) -> str:
    return TITLES.get(method["name"], method["name"])


def splits(report: Mapping[str, Any]) -> Table:
    """Real images of each group in each split."""
    dataset = report.get("dataset") or {}
    counts = {split: {name(entry): entry["n"] for entry in entries} for split, entries in dataset.items()}
    groups = dict.fromkeys(group for entries in counts.values() for group in entries)
    titles = ["group", *(f"\t{SPLITS[split]}" for split in SPLITS if split in counts)]
    rows = [[group, *(str(counts[split].get(group, 0)) for split in SPLITS if split in counts)] for group in groups]
    # Of many pairs of label and attribute those that no image has would hide the others.
    rows = [row for row in rows if len(rows) <= _FEW or {*row[1:]} != {"0"}]
    return Table("Real images by group and split", titles, rows)


def agreement(report: Mapping[str, Any]) -> Table:
    """Discovered attributes against the true ones."""
    found = report["discovered"]["agreement"] or {}
    titles = ["label", "split", "\timages", "\tadjusted mutual information", "\tpurity"]
    rows = [
        [
            entry["label"],
            SPLITS.get(split, split),
            str(entry["n"]),
            f"{entry['adjusted_mutual_information']:.2f}",
            percent(entry["purity"]),
        ]
        for split, entries in found.items()
        for entry in entries
    ]
    return Table("Discovered attributes against the true one, which was used for this comparison alone", titles, rows)


def true_groups(report: Mapping[str, Any]) -> Table:
    """Every method over the true groups."""
    titles = ["method", "\tworst-group accuracy", "worst group (test images)", "\taccuracy"]
    rows = [
        [
            _title(m),
            percent(m["worst_group_accuracy"]["mean"]),
            f"{name(m['worst_group'])} ({m['worst_group']['n']})",
            percent(m["accuracy"]["mean"]),
        ]
        for m in report["discovered"]["true_groups"]
    ]
    return Table("Over the true groups", titles, rows)


def synthetic(report: Mapping[str, Any]) -> Table:
    """How the images of each group were made, and what became of them."""
    titles = ["group", "\treal, training", "\tsynthetic (wanted)", "made by", "\tadapters", "\tmade"]
    titles += [
        "\tshow their group, says the filter's probe",
        "\tunseen real images that it recognises",
        "rejected",
        "remark",
    ]
    rows = []
    for group in report["groups"]:
        way = "not made" if group["generator"] == "none" else group["generator"]
        way += f": {group['way']}" if group["way"] != group["generator"] else ""
        right, judged = group["recognised"]
        rejected = ", ".join(f"{reason} {n}" for reason, n in group["rejected"].items()) or "0"
        remark = "; ".join(text for text in (group["remark"], group["why"]) if text)
        made = [
            str(group["real"]),
            f"{group['synthetic']} ({group['quota']})",
            way,
            str(group["k"]),
            str(group["made"]),
        ]
        cells = [percent(group["probe_agreement_made"]), f"{right} of {judged}", rejected, remark]
        rows.append([name(group), *made, *cells])
    return Table("How the images of each group were made", titles, rows)


def trials(report: Mapping[str, Any]) -> Table:
    """Trial batches of every group and route."""
    titles = ["group", "route", "\timages", "\tshow their group", "\tlabel", "\tattribute"]
    titles += ["\tlabel, by zero-shot CLIP", "\tattribute, by zero-shot CLIP"]
    columns = ("made", "both", "label", "attribute", "zero_shot_label", "zero_shot_attribute")
    rows = [
        [f"{t['group'][0]}, {t['group'][1]}", t["way"], *(str(t[column]) for column in columns)]
        for t in report["synthesis"]["trials"]
    ]
    return Table(
        "Trial batches: a few images of each group by each route, from which the route was chosen", titles, rows
    )


def stages(report: Mapping[str, Any]) -> Table:
    """Time and images of every stage."""
    titles = [
        "stage",
        "\tseconds",
        "\tof it start-up",
        "\tworkers",
        "\tworker-hours at most",
        "\tunits",
        "\tof them found",
    ]
    titles += ["\timages in", "\tused", "\tquarantined", "\tleft out"]
    rows = []
    for stage in report["stages"]:
        workers = stage.get("workers") or 1
        hours = f"{stage['seconds'] * workers / 3600:.3f}"
        cells = [f"{stage['seconds']:.1f}", f"{stage['startup_seconds']:.1f}", str(workers), hours]
        counts = ("units", "cached", "input", "used", "quarantined", "excluded")
        rows.append([stage["name"], *cells, *(str(stage[count]) for count in counts)])
    return Table("Time, cost and images of every stage", titles, rows)


def pairs(caption: str, head: tuple[str, str], values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Table:
    """A table of two columns."""
    entries = values.items() if isinstance(values, Mapping) else values
    return Table(caption, head, [[str(key), str(value)] for key, value in entries])
