"""Accuracy per group of predictions whose labels and attributes are known, as JSON and as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fairsynth.commands.predict.truth import Known
from fairsynth.escaping import printable
from fairsynth.groups import Group
from fairsynth.manifest import SPLITS
from fairsynth.metrics import equalized_odds_difference, score, wilson


class Seen(NamedTuple):
    """A classified image and what is known of it."""

    predicted: str
    known: Known


def group_figures(
    predicted: Mapping[str, str], known: Mapping[str, Known], reasons: Mapping[str, str], labels: Sequence[str],
    has: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Figures of each split, and what is left out: images = used + excluded.

    ``predicted``: label by path, empty where an image cannot be read. ``known``, ``reasons``: as ``truth.matched`` gives
    them. ``has``: what is known of images at all, of label and attribute; images that lack it are left out, as are those
    whose label the classifier does not know. The definitions are those of ``fairsynth.metrics``.
    """
    excluded, parts = Counter[str](), dict[str, list[Seen]]()
    for path, label in predicted.items():
        reason = _why_not(path, label, known, reasons, labels, has)
        if reason:
            excluded[reason] += 1
        else:
            parts.setdefault(known[path].split, []).append(Seen(label, known[path]))
    order = sorted(parts, key=lambda split: (*SPLITS[::-1], split).index(split))
    return {
        "schema": 1,
        "images": len(predicted),
        "used": sum(map(len, parts.values())),
        "excluded": dict(sorted(excluded.items())),
        "parts": [{"split": split, **_figures(parts[split], labels, has)} for split in order],
    }


def _why_not(
    path: str, label: str, known: Mapping[str, Known], reasons: Mapping[str, str], labels: Sequence[str],
    has: Sequence[str],
) -> str:  # fmt: skip
    if not label:
        return "cannot_be_read"
    if path not in known:
        return reasons.get(path, "no_row")
    lacking = next((what for what in has if not getattr(known[path], what)), None)
    if lacking:
        return f"no_{lacking}"
    return "label_not_of_classifier" if "label" in has and known[path].label not in labels else ""


def _figures(seen: Sequence[Seen], labels: Sequence[str], has: Sequence[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {"n": len(seen)}
    if "label" in has:
        figures |= _accuracies(seen, labels)
    if "attribute" in has:
        figures |= _shares(seen, labels)
    return figures


def _accuracies(seen: Sequence[Seen], labels: Sequence[str]) -> dict[str, Any]:
    groups = [Group(one.known.label, one.known.attribute) for one in seen]
    scores = score([one.predicted == one.known.label for one in seen], groups, sorted({*groups}), {})
    right = sum(group.correct for group in scores.groups)
    places = {label: place for place, label in enumerate(labels)}
    attributes = np.unique([group.attribute for group in groups], return_inverse=True)[1]
    truth, predicted = (np.array([places[label] for label in column], np.int64)
                        for column in ([g.label for g in groups], [one.predicted for one in seen]))  # fmt: skip
    return {
        "accuracy": scores.accuracy,
        "accuracy_ci95": list(wilson(right, len(seen))),
        "accuracy_group_mean": scores.accuracy_group_mean,
        "worst_group_accuracy": scores.worst_group_accuracy,
        "worst_group": {**scores.worst.group._asdict(), "n": scores.worst.n},
        "equalized_odds_difference": equalized_odds_difference(truth, predicted, attributes.astype(np.int64)),
        "groups": [
            {**g.group._asdict(), "n": g.n, "correct": g.correct, "accuracy": g.accuracy, "ci95": list(wilson(g.correct, g.n))}
            for g in scores.groups
        ],
    }  # fmt: skip


def _shares(seen: Sequence[Seen], labels: Sequence[str]) -> dict[str, Any]:
    """Of each attribute the share of every predicted label, and the largest gap between attributes.

    The gap, the largest over labels, is fairlearn's demographic parity difference (Agarwal et al. 2018, arXiv 1803.02453);
    None where there are no two attributes.
    """
    counts: dict[str, Counter[str]] = {}
    for one in seen:
        counts.setdefault(one.known.attribute, Counter())[one.predicted] += 1
    shares = {a: {label: its[label] / its.total() for label in labels} for a, its in sorted(counts.items())}
    columns = [[share[label] for share in shares.values()] for label in labels]
    gap = max(max(column) - min(column) for column in columns) if len(shares) > 1 else None
    return {
        "predicted": [{"attribute": a, "n": counts[a].total(), "shares": shares[a]} for a in shares],
        "demographic_parity_difference": gap,
    }


def lines(figures: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    """The figures for people: the groups of the first split, a line for each other one, and what is left out."""
    first, others = figures["parts"][:1], figures["parts"][1:]
    told = [line for part in first for line in _part_lines(part, labels)]
    told += [f"{printable(part['split']) or 'no split'}: {_line(part)}" for part in others]
    if figures["excluded"]:
        left = ", ".join(f"{printable(reason)} {n}" for reason, n in figures["excluded"].items())
        told.append(f"left out of these figures: {left}")
    return told


def _part_lines(part: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    split = f", split {printable(part['split'])}" if part["split"] else ""
    if "groups" not in part:
        rows = [
            (one["attribute"], str(one["n"]), *(_percent(one["shares"][label]) for label in labels))
            for one in part["predicted"]
        ]
        head = ("attribute", "images", *(f"taken as {label}" for label in labels))
        return [f"predicted labels by attribute{split}:", *_table([head, *rows]), _line(part)]
    rows = [
        (g["label"], g["attribute"], str(g["n"]), _percent(g["accuracy"]), " to ".join(map(_percent, g["ci95"])))
        for g in part["groups"]
    ]
    head = ("label", "attribute", "images", "accuracy", "95 % interval")
    return [f"accuracy by group{split}:", *_table([head, *rows]), _line(part)]


def _line(part: Mapping[str, Any]) -> str:
    told = [f"{part['n']} images"]
    if "groups" in part:
        worst = part["worst_group"]
        told += [
            f"accuracy {_percent(part['accuracy'])}",
            f"mean of the groups {_percent(part['accuracy_group_mean'])}",
            f"worst group {_percent(part['worst_group_accuracy'])} {Group(worst['label'], worst['attribute'])}",
        ]
    elif (
        part["demographic_parity_difference"] is not None
    ):  # with labels, it is told in the file alone: it follows theirs
        told.append(f"largest gap between attributes {part['demographic_parity_difference'] * 100:.1f} points")
    return ", ".join(told)


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    # A name with a line break would look like a row of its own.
    shown = [[*map(printable, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    ]
