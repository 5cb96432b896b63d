"""The report's sentences about fidelity, privacy and limits: words before tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairsynth.escaping import printable
from fairsynth.stages.report.tables import name, percent

Report = Mapping[str, Any]


def fidelity(report: Report) -> list[str]:
    """Whether the images show their group, and whether they can be told from real ones."""
    groups = report["audit"]["groups"]
    if not groups:
        return ["There are no synthetic images to look at."]
    seen = [
        (shown["probe"]["both"], printable(name(group)))
        for group in groups
        if (shown := group["agreement"].get("synthetic")) and shown["probe"]
    ]
    told = [
        (found["detectability"]["auc"], printable(name(group)))
        for group in groups
        if (found := group["fidelity"].get("synthetic")) and found.get("detectability")
    ]
    lines = []
    if seen:
        lines.append(
            f"Accepted images show their label and their attribute in {percent(min(seen)[0])} (the worst group, "
            f"{min(seen)[1]}) to {percent(max(seen)[0])} of the cases, as a probe sees them that learnt from other real images."
        )
    if told:
        worst = max(told)
        easy = "They are easily told from real ones" if worst[0] >= 0.9 else "They can be told from real ones"
        lines.append(
            f"{easy if worst[0] >= 0.7 else 'They are hard to tell from real ones'}: a classifier ranks a real image "
            f"before a synthetic one in {percent(worst[0])} of the pairs in the worst group, {worst[1]} (50 % is guessing)."
        )
    return lines


def privacy(report: Report) -> list[str]:
    """Whether images are copies of training images, and whether that could be measured."""
    copies = report["audit"]["copies"]
    test = copies["self_test"]
    if not copies.get("images"):
        return ["There are no synthetic images that could be copies."]
    if not test["passed"]:
        found = (
            "the detector of copies did not pass its self-test (planted copies found: "
            f"{percent(test['detected']['share'])} of {test['detected']['n']}, false alarms: "
            f"{percent(test['false_alarms']['share'])} of {test['false_alarms']['n']})"
            if "detected" in test
            else ""
        )
        return [
            f"Privacy was not measured: {test.get('why') or found}. Treat the images as if they were the training data."
        ]
    kinds = ", ".join(f"{kind} {percent(entry['share'])}" for kind, entry in test["by_kind"].items())
    return [
        f"{copies['flagged'] or 0} of {copies['images']} accepted images look like copies of one of {copies['training']} "
        f"training images (of {copies['training_images']}).",
        f"The detector's self-test passed: it found {percent(test['detected']['share'])} of {test['detected']['n']} planted "
        f"copies ({kinds}), and took {percent(test['false_alarms']['share'])} of {test['false_alarms']['n']} held-out real "
        "images for copies.",
        "Synthetic images, and adapters even more so, can still show people of the training images: treat them like the "
        "training data.",
    ]


def limits(report: Report) -> list[str]:
    """What the report does not show."""
    methods = report["methods"]
    seeds = len(methods[0].get("seeds", ())) if methods else 0
    ns = [group["n"] for method in methods[:1] for group in method["groups"]]
    few, empty = sum(0 < n < 100 for n in ns), sum(n == 0 for n in ns)
    lines = [
        "The figures hold for test images like these. For other cameras, places, times or people they say nothing.",
        "A group is a label with an attribute. Unfairness along attributes that the dataset does not name is not seen.",
        "The interval holds chance in training and in the choice of test images. What another search or other synthetic "
        "images would have given is not in it (fairsynth bench with bench.seeds says).",
        "Synthetic images were filtered and measured by CLIP, which has prejudices of its own; look at the pictures.",
        "A passed self-test does not prove that no image is a copy: it shows which copies the detector finds.",
    ]
    lines += [f"There were only {seeds} training seeds: intervals from so few are wide."] if 1 < seeds < 5 else []
    lines += ["There was one training seed: nothing is said about chance in training."] if seeds == 1 else []
    lines += [f"Groups with fewer than 100 test images, whose accuracies are uncertain: {few}."] if few else []
    lines += [f"Groups without test images, of which nothing is known: {empty}."] if empty else []
    if report.get("discovered"):
        lines.append("Attributes were discovered: groups that the clusters do not show are not measured.")
    if not report["synthetic_images"].get("images"):
        lines.append("No synthetic images were made: nothing here says what they would do.")
    return lines
