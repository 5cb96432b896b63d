"""Steps tune, evaluate and report: from images to a fair classifier and the page about it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts, Units, write_json
from fairsynth.engine.units import Ran, run_units
from fairsynth.groups import Group
from fairsynth.manifest import TEST, TRAIN, VALIDATION, Manifest
from fairsynth.models.sources import revision
from fairsynth.steps.context import Context, Done, Stopwatch, found
from fairsynth.steps.generate import read_files

TUNE_VERSION = EVALUATE_VERSION = 1
GRID_IMAGES = 24


def _names(context: Context) -> tuple[list[str], list[str]]:
    """Labels and attributes of the whole dataset, sorted: their indices are the classifier's."""
    return sorted(set(context.manifest.column("label"))), sorted(set(context.manifest.column("attribute")))


def _pack_real(context: Context, units: Units, split: str) -> None:
    from fairsynth.stages.training_data import pack

    rows = context.manifest.split(split).rows()
    _pack(context, units, split, rows, [(context.data_root / row["path"]) for row in rows], pack)


def _pack(
    context: Context, units: Units, name: str, rows: Sequence[dict[str, Any]], files: Sequence[Path | bytes], pack: Any
) -> None:
    labels, attributes = _names(context)
    contents = (file if isinstance(file, bytes) else file.read_bytes() for file in files)
    units.commit(
        f"pack-{name}",
        lambda folder: pack(
            folder,
            list(contents),
            [r["label"] for r in rows],
            [r["attribute"] for r in rows],
            labels,
            attributes,
            context.config.classify.image_size,
        ),
    )


def tune(context: Context) -> Done:
    """The best setting of every method, searched with the same number of trials."""
    config = context.config
    recipe = {"classify": config.classify.model_dump(), "tune": config.tune.model_dump(), "seed": config.seed}
    inputs = ("synthesize", "ingest") if "fairsynth" in config.tune.methods else ("ingest",)
    artifact = context.artifact(
        "tune",
        TUNE_VERSION,
        inputs,
        recipe,
        backbone=revision(config.classify.backbone, config.classify.backbone_revision),
    )
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    from fairsynth.engine.search import best, search

    watch, _ = Stopwatch(context, artifact), artifact.open()
    units = artifact.units()
    units.sweep()
    before = units.done()
    for split in (TRAIN, VALIDATION):
        _pack_real(context, units, split)
    if "fairsynth" in config.tune.methods:
        _pack_synthetic(context, units)
    chosen, table = {}, []
    for method in config.tune.methods:
        trials = search(context.session, method, units.path, units, config.classify, config.tune, config.seed)
        table += [vars(trial) | {"setting": dict(trial.setting)} for trial in trials]
        chosen[method] = dict(best(trials).setting)
    write_json(artifact.path / "trials.json", table)
    shutil.rmtree(artifact.path / "ray", ignore_errors=True)
    train = len(context.manifest.split(TRAIN)) + len(context.manifest.split(VALIDATION))
    counts = Counts(len(context.manifest), train, 0, len(context.manifest) - train)
    return watch.finish(
        counts,
        Ran(len(units.done() - before), len(before), 0.0),
        f"{config.tune.trials} trials for each of {', '.join(chosen)}",
        settings=chosen,
    )


def _pack_synthetic(context: Context, units: Units) -> None:
    from fairsynth.stages.training_data import pack

    artifact = context.artifacts["synthesize"]
    rows = [
        row for row in pq.read_table(artifact.path / "synthetic.parquet").to_pylist() if row["verdict"] == "accepted"
    ]
    files = read_files(artifact, rows)
    _pack(context, units, "synthetic", rows, [files[row["image_id"]] for row in rows], pack)


def evaluate(context: Context) -> Done:
    """Every method's best setting, trained from several seeds, on the test split."""
    config = context.config
    artifact = context.artifact(
        "evaluate", EVALUATE_VERSION, ("tune", "ingest"), config.evaluate.model_dump() | {"seed": config.seed}
    )
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    from fairsynth.stages.evaluate import EvaluateUnit

    watch, folder = Stopwatch(context, artifact), artifact.open()
    units, tuned = artifact.units(), context.artifacts["tune"]
    _pack_real(context, units, TEST)
    test = context.manifest.split(TEST)
    # JSON keeps no order: the methods come in the config's.
    settings: dict[str, dict[str, float]] = {method: tuned.record["settings"][method] for method in config.tune.methods}
    names = [f"{method}-{index}" for index in range(config.evaluate.seeds) for method in settings]
    tests = [{key: row[key] for key in ("image_id", "label", "attribute")} for row in test.rows()]
    make = partial(
        EvaluateUnit,
        tuned.units().path,
        units["pack-test"],
        settings,
        tests,
        _names(context)[0],
        config.classify,
        config.seed,
        folder / "classifiers",
    )
    ran = run_units(context.session, "evaluate", units, names, make)
    tables = [
        pq.read_table(units[f"{method}-{index}"] / "predictions.parquet")
        for method in settings
        for index in range(config.evaluate.seeds)
    ]
    pq.write_table(pa.concat_tables(tables), folder / "predictions.parquet")
    counts = Counts(len(context.manifest), len(test), 0, len(context.manifest) - len(test))
    return watch.finish(
        counts, ran, f"{len(settings)} methods x {config.evaluate.seeds} seeds on {len(test)} test images"
    )


def report(context: Context) -> Done:
    """report.json, report.html, predictions.parquet and the classifier, laid out in the output folder."""
    from fairsynth.stages import report as stage

    earlier = tuple(context.artifacts)
    artifact = context.artifact("report", stage.VERSION, earlier, {})
    if (artifact.finished and (context.root / "report.json").exists()) or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    content = _content(context)
    write_json(folder / "report.json", content)
    (folder / "report.html").write_text(stage.page(content, _grids(context)), "utf-8")
    evaluated = context.artifacts["evaluate"].path
    for source in (evaluated / "predictions.parquet", folder / "report.html", folder / "report.json"):
        _place(source, context.root / source.name)
    ours = evaluated / "classifiers" / "fairsynth-0"
    if ours.exists():
        shutil.copytree(ours, context.root / "classifier", dirs_exist_ok=True)
    n = len(context.manifest)
    return watch.finish(Counts(n, n, 0, 0), Ran(1, 0, 0.0), f"verdict: {content['verdict']}")


def _place(source: Path, target: Path) -> None:
    """Copy so that the target is old or new, never half."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def _content(context: Context) -> dict[str, Any]:
    from fairsynth.stages.evaluate import score_methods, verdict
    from fairsynth.stages.report import method_entry

    splits = {split: context.manifest.split(split).counts() for split in (TRAIN, VALIDATION, TEST)}
    labels, attributes = _names(context)
    groups = [Group(label, attribute) for label in labels for attribute in attributes]
    methods = score_methods(
        pq.read_table(context.artifacts["evaluate"].path / "predictions.parquet"), groups, splits[TRAIN]
    )
    by_name = {method.name: method for method in methods}
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
        "methods": [method_entry(m) for m in methods],
        "stages": stages,
        "groups": context.artifacts["synthesize"].record["groups"],
        "settings": context.artifacts["tune"].record["settings"],
        "config": context.config.model_dump(exclude={"out", "resources"}),
    }


def _grids(context: Context) -> list[dict[str, Any]]:
    """Real, accepted and rejected images of each group."""
    from fairsynth.stages.report import sheet

    synthesized: Artifact = context.artifacts["synthesize"]
    rows = pq.read_table(synthesized.path / "synthetic.parquet").to_pylist()
    train: Manifest = context.manifest.split(TRAIN)
    grids = []
    for group in sorted(train.counts()):
        members = [row for row in rows if (row["label"], row["attribute"]) == group]
        kept, dropped = (
            [row for row in members if (row["verdict"] == "accepted") == good][:GRID_IMAGES] for good in (True, False)
        )
        files = read_files(synthesized, kept + dropped)
        real = [(context.data_root / path).read_bytes() for path in train.of_group(group).column("path")[:GRID_IMAGES]]
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
    from fairsynth.stages.report import table_lines

    content = json.loads((root / "report.json").read_text("utf-8"))
    return [*table_lines(content), f"verdict: {content['verdict']}", f"report: {root / 'report.html'}"]
