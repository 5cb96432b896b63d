"""Step report: everything that was found, as a page for people and JSON for scripts."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts, fingerprint, write_json
from fairsynth.data.location import same_content
from fairsynth.engine.units import Ran
from fairsynth.groups import Group
from fairsynth.manifest import TEST, TRAIN, VALIDATION, Manifest
from fairsynth.stages.audit.step import read_audit
from fairsynth.stages.context import Context, Done, Stopwatch, found
from fairsynth.stages.synthesize.output import TABLE, read_files, spread
from fairsynth.stages.synthesize.selection import ACCEPTED, members
from fairsynth.stages.tune.step import PICTURE, TRIALS

GRID_IMAGES = 24


def report(context: Context) -> Done:
    """report.json, report.html, predictions.parquet and the classifier, laid out in the output folder."""
    from fairsynth.stages.report import page as stage

    # Ingest's digest is that of the images used; the page also tells what was set aside.
    facts = fingerprint(_data_facts(context) | {"root": ""})
    artifact = context.artifact("report", stage.VERSION, tuple(context.artifacts), {}, data=facts)
    if artifact.finished or context.lookup_only:
        if artifact.finished and not context.lookup_only and not _shown(context, artifact):
            _lay_out(context, artifact.path)
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    content = _content(context)
    write_json(folder / "report.json", content)
    search = stage.embedded((context.artifacts["tune"].path / PICTURE).read_bytes())
    (folder / "report.html").write_text(stage.page(content, _grids(context), search), "utf-8")
    _lay_out(context, folder)
    n = len(context.manifest)
    return watch.finish(Counts(n, n, 0, 0), Ran(1, 0, 0.0), f"verdict: {content['verdict']}")


def _shown(context: Context, artifact: Artifact) -> bool:
    """True if the output folder shows this report, not that of another config's run."""
    shown = context.root / "report.json"
    return shown.exists() and shown.read_bytes() == (artifact.path / "report.json").read_bytes()


def _lay_out(context: Context, folder: Path) -> None:
    """Copy classifier, predictions and report to where people look; report.json last, for it says that the rest is there."""
    evaluated, classifier = context.artifacts["evaluate"].path, context.root / "classifier"
    ours = evaluated / "classifiers" / "fairsynth-0"
    shutil.rmtree(classifier, ignore_errors=True)
    if ours.exists():
        shutil.copytree(ours, classifier)
    tuned = context.artifacts["tune"].path
    for source in (
        *(tuned / name for name in (TRIALS, PICTURE)),
        evaluated / "predictions.parquet",
        folder / "report.html",
        folder / "report.json",
    ):
        _place(source, context.root / source.name)


def _place(source: Path, target: Path) -> None:
    """Copy so that the target is old or new, never half."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def _content(context: Context) -> dict[str, Any]:
    from fairsynth.metrics import more_figures, score_methods, test_counts, verdict
    from fairsynth.stages.report.page import method_entry

    predictions = pq.read_table(context.artifacts["evaluate"].path / "predictions.parquet")
    splits = {split: context.manifest.split(split).counts() for split in (TRAIN, VALIDATION)}
    splits[TEST] = test_counts(predictions)
    labels, attributes = context.group_names
    groups = [Group(label, attribute) for label in labels for attribute in attributes]
    methods = score_methods(predictions, groups, splits[TRAIN])
    by_name, more = {method.name: method for method in methods}, more_figures(predictions, labels)
    judged = verdict(by_name["fairsynth"], by_name["erm"]) if {"fairsynth", "erm"} <= by_name.keys() else "inconclusive"
    dataset = {
        split: [{"label": g.label, "attribute": g.attribute, "n": counts[g]} for g in groups]
        for split, counts in splits.items()
    }
    stages = [
        {
            "name": name,
            **{key: record[key] for key in ("seconds", "startup_seconds", "units", "cached", "summary")},
            **record["counts"],
        }
        for name, record in ((name, artifact.record) for name, artifact in context.artifacts.items())
    ]
    return {
        "schema": 1,
        "verdict": judged,
        "seed": context.config.seed,
        "generator": context.config.finetune.generator,
        "dataset": dataset,
        "data": _data_facts(context),
        "discovered": _discovered(context, predictions),
        "methods": [method_entry(m, more[m.name], by_name.get("fairsynth")) for m in methods],
        "stages": stages,
        "groups": context.artifacts["synthesize"].record["groups"],
        "synthesis": {
            key: context.artifacts["synthesize"].record[key]
            for key in ("trials", "codec", "copy_threshold", "probe_right")
        },
        "audit": read_audit(context.artifacts["audit"]),
        "settings": context.artifacts["tune"].record["settings"],
        "config": context.config.model_dump(exclude={"out", "resources", "bench"}),
    }


def _data_facts(context: Context) -> dict[str, Any]:
    """What ingest and embed set aside, and what else is to be known of the data."""
    record = context.artifacts["ingest"].record
    return {
        "root": str(context.storage),
        "counts": record["counts"],
        "reasons": record["reasons"],
        "severity": record["severity"],
        "remarks": [*record["remarks"], *context.artifacts["cluster"].record["remarks"]],
    }


def _discovered(context: Context, predictions: pa.Table) -> dict[str, Any] | None:
    """For discovered attributes: their agreement with the true ones, and every method over the true groups."""
    if context.config.data.attribute != "discover":
        return None
    from fairsynth.metrics import score_methods, test_counts
    from fairsynth.stages.cluster.discover import agreement
    from fairsynth.stages.report.page import method_entry

    path = context.artifacts["cluster"].path / "agreement.json"
    facts: dict[str, Any] = {"kinds": context.config.data.discovered, "agreement": None, "true_groups": []}
    if not path.exists():
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
        "agreement": json.loads(path.read_text("utf-8")) | {TEST: tested},
        "true_groups": [method_entry(m) for m in score_methods(truth, groups, counts)],
    }


def _runs(predictions: pa.Table) -> list[tuple[str, int]]:
    return list(zip(*(predictions.column(name).to_pylist() for name in ("method", "seed")), strict=True))


def _grids(context: Context) -> list[dict[str, Any]]:
    """Real, accepted and rejected images of each group."""
    from fairsynth.stages.report.page import sheet

    synthesized: Artifact = context.artifacts["synthesize"]
    table = pq.read_table(synthesized.path / TABLE, columns=["image_id", "unit", "label", "attribute", "verdict"])
    places, good = members(table), pc.equal(table["verdict"], ACCEPTED).to_numpy()
    train: Manifest = context.manifest.split(TRAIN)
    grids = []
    for group in sorted({*train.counts(), *places}):
        mine = places.get(group, np.zeros(0, np.int64))
        kept, dropped = (
            table.take(pa.array(spread(mine[good[mine] == wanted].tolist(), GRID_IMAGES), pa.int64())).to_pylist()
            for wanted in (True, False)
        )
        files = read_files(synthesized, kept + dropped)
        shown = spread(train.of_group(group).rows(), GRID_IMAGES)
        real = [same_content(context.images, row) for row in shown]
        images = [
            ("real", sheet(real)),
            *(
                (caption, sheet([files[row["image_id"]] for row in part]))
                for caption, part in (("synthetic, accepted", kept), ("synthetic, rejected", dropped))
            ),
        ]
        grids.append({"title": f"{group.label}, {group.attribute}", "images": images})
    return grids


def summary_lines(root: Path) -> list[str]:
    """The table and the path of the report, for the end of a run."""
    from fairsynth.stages.report.page import table_lines

    content = json.loads((root / "report.json").read_text("utf-8"))
    return [*table_lines(content), f"verdict: {content['verdict']}", f"report: {root / 'report.html'}"]
