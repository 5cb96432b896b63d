"""The report's tables of the audit: fidelity, shortcuts, copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairsynth.stages.report.tables import NONE, Table, name, percent

_KINDS = (("made", "synthetic, all made"), ("synthetic", "synthetic, accepted"), ("held_out", "real, held out"))
_FORMS = (
    *(("frechet_distance", "{:.3f}"), ("kernel_distance", "{:.4f}"), ("precision", "{:.2f}")),
    *(("recall", "{:.2f}"), ("density", "{:.2f}"), ("coverage", "{:.2f}")),
)


def fidelity(report: Mapping[str, Any]) -> Table:
    """What the images of each group show and how close they are to real ones, beside held-out real images."""
    titles = [
        "group",
        "images",
        "\tnumber",
        "\tlabel, attribute, both seen by a probe",
        "\tby zero-shot CLIP",
        "\tFréchet",
    ]
    titles += ["\tkernel", "\tprecision", "\trecall", "\tdensity", "\tcoverage", "\ttold from real (AUC)"]
    rows = []
    for group in report["audit"]["groups"]:
        for kind, caption in _KINDS:
            shown, figures = group["agreement"].get(kind), group["fidelity"].get(kind)
            seen = [_seen(shown[by]) if shown and shown[by] else NONE for by in ("probe", "zero_shot")]
            cells = [form.format(figures[key]) if figures else NONE for key, form in _FORMS]
            told = f"{figures['detectability']['auc']:.2f}" if figures and figures.get("detectability") else NONE
            rows.append([name(group), caption, str(group.get(kind, "")) or NONE, *seen, *cells, told])
    return Table("What the images show, and how close they are to real ones", titles, rows)


def _seen(shown: Mapping[str, float]) -> str:
    return f"{percent(shown['label'])}, {percent(shown['attribute'])}, {percent(shown['both'])}"


def shortcuts(report: Mapping[str, Any]) -> Table:
    """Whether a label can be told by how an image was made."""
    titles = [
        "attribute",
        "\tlabel told by the generator",
        "\tchance",
        "\tlabel told by how real it looks (AUC)",
        "\tthe same, real images",
    ]
    rows = []
    for entry in report["audit"]["shortcuts"]:
        style = entry["style"] or {}
        by_style = [_auc(style.get("synthetic")), _auc(style.get("real"))]
        rows.append([entry["attribute"], percent(entry["label_from_generator"]), percent(entry["chance"]), *by_style])
    return Table("Can the label be told by how an image was made?", titles, rows)


def _auc(interval: Mapping[str, float] | None) -> str:
    return f"{interval['auc']:.2f} ({interval['low']:.2f} to {interval['high']:.2f})" if interval else NONE


def nearness(report: Mapping[str, Any]) -> Table:
    """How close the images of each group keep to what was learnt."""
    titles = ["group", "\tnearer to what was learnt than to held-out images", "\t95 %", "\tthe same, other real images"]
    titles += ["\tnearest / second nearest (1 % quantile)", "\tthe same, held-out images"]
    rows = []
    for group in report["audit"]["groups"]:
        found = group["memorisation"]
        if not found:
            rows.append([name(group), *[NONE] * 5])
            continue
        closer, usual, ratio = found["closer_to_training"], found["closer_real"], found["nearest_ratio"]
        cells = [
            f"{percent(closer['share'])} of {closer['n']}",
            f"{percent(closer['low'])} to {percent(closer['high'])}",
        ]
        cells += [percent(usual["share"]) if usual else NONE, f"{ratio['synthetic']:.2f}", f"{ratio['held_out']:.2f}"]
        rows.append([name(group), *cells])
    return Table("Do the images keep close to those that were learnt?", titles, rows)


def clusters(report: Mapping[str, Any]) -> Table:
    """The same figures by cluster."""
    titles = [
        "group",
        "adapter",
        "\tcluster",
        "\tsynthetic",
        "\tlearnt from",
        "\tlabel, attribute, both seen by a probe",
    ]
    titles += ["\tFréchet (real)", "\tprecision (real)", "\tcoverage (real)", "\tnearest / second nearest"]
    rows = []
    for entry in report["audit"]["clusters"]:
        adapter = entry["adapter"]
        cells = [
            adapter or "none",
            str(entry["cluster"]) if adapter else NONE,
            str(entry["synthetic"]),
            str(entry["learnt"]),
        ]
        both = entry["fidelity"]["synthetic"], entry["fidelity"]["held_out"]
        figures = [
            _beside(form, key, *both) for key, form in _FORMS if key in ("frechet_distance", "precision", "coverage")
        ]
        ratio = NONE if entry["nearest_ratio"] is None else f"{entry['nearest_ratio']:.2f}"
        rows.append([name(entry), *cells, _seen(entry["agreement"]["probe"]), *figures, ratio])
    return Table("The same by cluster", titles, rows)


def _beside(form: str, key: str, made: Mapping[str, Any] | None, real: Mapping[str, Any] | None) -> str:
    if not made:
        return NONE
    return form.format(made[key]) + (f" ({form.format(real[key])})" if real else "")
