"""Stage report: all results, as a page for people and JSON for scripts."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairsynth.artifacts import Artifact, Counts, fingerprint, write_json
from fairsynth.manifest import TEST, TRAIN, VALIDATION
from fairsynth.metrics import agreement, more_figures, score_methods, test_counts
from fairsynth.stages.audit.output import read_audit
from fairsynth.stages.cluster.output import read_agreement
from fairsynth.stages.context import Context
from fairsynth.stages.evaluate.output import classifier_folder, predictions_file, read_predictions
from fairsynth.stages.report.use import TOLD, use_of_images, used_as
from fairsynth.stages.stage import Made
from fairsynth.stages.synthesize.output import group_records
from fairsynth.stages.tune.output import PICTURE, TRIALS, chosen_settings, compared_policies, search_note
from fairsynth.work import Ran

VERSION = 5


def artifact(context: Context) -> Artifact:
    """Named by all earlier results, and by what was set aside, because ingest's digest covers the used images alone."""
    facts = fingerprint(_data_facts(context) | {"root": ""})
    return context.artifact("report", VERSION, tuple(context.artifacts), {}, data=facts)


def make(context: Context, artifact: Artifact) -> Made:
    """Write report.json and report.html."""
    from fairsynth.stages.report.grids import grids
    from fairsynth.stages.report.page import embedded, page, verdict_line

    content, folder = _content(context), artifact.path
    write_json(folder / "report.json", content)
    shown = grids(context.artifacts["synthesize"], context.manifest.split(TRAIN), context.dataset.images)
    search = embedded((context.artifacts["tune"].path / PICTURE).read_bytes())
    (folder / "report.html").write_text(page(content, shown, search), "utf-8")
    n = len(context.manifest)
    return Made(Counts(n, n, 0, 0), verdict_line(content), Ran(1))


def show(context: Context, artifact: Artifact, fresh: bool) -> None:
    """Lay out report, predictions, trials and classifier where people look, unless they are there already.

    report.json comes last: it says that the rest is complete.
    """
    published, folder = context.root / "report.json", artifact.path
    if not fresh and published.exists() and published.read_bytes() == (folder / "report.json").read_bytes():
        return
    evaluated, tuned = context.artifacts["evaluate"], context.artifacts["tune"]
    from fairsynth.exports.classifier import publish

    report = json.loads((folder / "report.json").read_text("utf-8"))
    ours = classifier_folder(evaluated, "fairsynth", 0)
    publish(ours, context.root / "classifier", context.group_names[0], context.config.classify.image_size, report)
    trials = (tuned.path / name for name in (TRIALS, PICTURE))
    for source in (*trials, predictions_file(evaluated), folder / "report.html", folder / "report.json"):
        _place(source, context.root / source.name)


def _place(source: Path, target: Path) -> None:
    """Copy so that the target is old or new, never half."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def _content(context: Context) -> dict[str, Any]:
    from fairsynth.stages.report.page import method_entry

    predictions = read_predictions(context.artifacts["evaluate"])
    splits = {split: context.manifest.split(split).counts() for split in (TRAIN, VALIDATION)}
    splits[TEST] = test_counts(predictions)
    groups = context.groups
    methods = score_methods(predictions, groups, splits[TRAIN])
    by_name, more = {method.name: method for method in methods}, more_figures(predictions, context.group_names[0])
    entries = {m.name: method_entry(m, more[m.name], by_name.get("fairsynth")) for m in methods}
    against_erm = entries.get("erm", {}).get("fairsynth_minus_this", {})
    dataset = {
        split: [{"label": g.label, "attribute": g.attribute, "n": counts[g]} for g in groups]
        for split, counts in splits.items()
    }
    synthesized = context.artifacts["synthesize"].record
    return {
        "schema": 1,
        "verdict": against_erm.get("verdict", "inconclusive"),
        "verdict_why": against_erm.get("why", "fairsynth and ERM were not both trained"),
        "seed": context.config.seed,
        "generator": context.config.finetune.generator,
        "dataset": dataset,
        "data": _data_facts(context),
        "discovered": _discovered(context, predictions),
        "methods": list(entries.values()),
        "stages": [_stage_entry(name, artifact.record) for name, artifact in context.artifacts.items()],
        "synthetic_images": _use_of_images(context),
        "groups": synthesized["groups"],
        "synthesis": {key: synthesized[key] for key in ("trials", "codec", "copy_threshold", "probe_right")},
        "audit": read_audit(context.artifacts["audit"]),
        "settings": chosen_settings(context.artifacts["tune"]),
        "policies": compared_policies(context.artifacts["tune"]),
        "search_note": search_note(context.artifacts["tune"]),
        "config": context.config.model_dump(exclude={"out", "resources", "bench", "tracking"}),
    }


def _use_of_images(context: Context) -> dict[str, Any]:
    config, setting = context.config, chosen_settings(context.artifacts["tune"]).get("fairsynth")
    records = group_records(context.artifacts["synthesize"])
    compared = compared_policies(context.artifacts["tune"])
    use = use_of_images(used_as(setting, config.classify), records, config.cluster.min_group, compared)
    return use | {"line": TOLD, "would_help": []} if setting and config.classify.synthetic == "none" else use


def _stage_entry(name: str, record: dict[str, Any]) -> dict[str, Any]:
    kept = {key: record[key] for key in ("seconds", "startup_seconds", "units", "cached", "summary")}
    return {"name": name, **kept, **record["counts"]}


def _data_facts(context: Context) -> dict[str, Any]:
    """What ingest and embed set aside, and further facts of the data."""
    record = context.artifacts["ingest"].record
    return {
        "root": str(context.dataset.storage),
        "counts": record["counts"],
        "reasons": record["reasons"],
        "severity": record["severity"],
        "remarks": [*record["remarks"], *context.artifacts["cluster"].record["remarks"]],
    }


def _discovered(context: Context, predictions: pa.Table) -> dict[str, Any] | None:
    """For discovered attributes: their agreement with the true ones, and every method over the true groups."""
    if context.config.data.attribute != "discover":
        return None
    from fairsynth.stages.report.page import method_entry

    known = read_agreement(context.artifacts["cluster"])
    facts: dict[str, Any] = {"kinds": context.config.data.discovered, "agreement": None, "true_groups": []}
    if known is None:
        return facts
    predictions = predictions.filter(pc.not_equal(pc.utf8_trim_whitespace(predictions.column("true_attribute")), ""))
    if not predictions.num_rows:
        return facts
    first = predictions.slice(0, predictions.num_rows // len(set(_runs(predictions))))
    tested = agreement(*(first.column(name).to_pylist() for name in ("label", "attribute", "true_attribute")))
    truth = predictions.set_column(
        predictions.column_names.index("attribute"), "attribute", predictions.column("true_attribute")
    )
    real = context.manifest.split(TRAIN)
    real = real.filter(value.strip() != "" for value in real.column("true_attribute"))
    counts = real.replaced("attribute", real.column("true_attribute")).counts()
    groups = sorted({*counts, *test_counts(truth)})
    return facts | {
        "agreement": known | {TEST: tested},
        "true_groups": [method_entry(m) for m in score_methods(truth, groups, counts)],
    }


def _runs(predictions: pa.Table) -> list[tuple[str, int]]:
    return list(zip(*(predictions.column(name).to_pylist() for name in ("method", "seed")), strict=True))


def summary_lines(root: Path) -> list[str]:
    """The table and the path of the report, for the end of a run."""
    from fairsynth.stages.report.page import table_lines, use_lines, verdict_line

    content = json.loads((root / "report.json").read_text("utf-8"))
    lines = [*table_lines(content), *use_lines(content)]
    return [*lines, verdict_line(content), f"report: {root / 'report.html'}"]
