"""The content of report.json (schema 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairsynth.artifacts import Artifact
from fairsynth.manifest import TEST, TRAIN, VALIDATION
from fairsynth.metrics import more_figures, score_methods, test_counts
from fairsynth.stages.audit.output import read_audit
from fairsynth.stages.evaluate.output import read_predictions
from fairsynth.stages.report.checks import checks
from fairsynth.stages.report.discovered import discovered
from fairsynth.stages.report.first_screen import in_words
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.report.methods import method_entry
from fairsynth.stages.report.provenance import provenance
from fairsynth.stages.report.use import TOLD, use_of_images, used_as
from fairsynth.stages.synthesize.output import group_records
from fairsynth.stages.tune.output import chosen_settings, compared_policies, search_note


def content(inputs: Inputs) -> dict[str, Any]:
    """All of report.json."""
    config, artifacts = inputs.config, inputs.artifacts
    predictions = read_predictions(artifacts["evaluate"], inputs.groups, config.tune.methods)
    splits = {split: inputs.manifest.split(split).counts() for split in (TRAIN, VALIDATION)}
    splits[TEST] = test_counts(predictions)
    groups = inputs.groups
    methods = score_methods(predictions, groups, splits[TRAIN])
    by_name, more = {method.name: method for method in methods}, more_figures(predictions, inputs.group_names[0])
    entries = {m.name: method_entry(m, more[m.name], by_name.get("fairsynth")) for m in methods}
    against_erm = entries.get("erm", {}).get("fairsynth_minus_this", {})
    synthesized = artifacts["synthesize"].record
    report = {
        "schema": 1,
        "verdict": against_erm.get("verdict", "inconclusive"),
        "verdict_why": against_erm.get("why", "fairsynth and ERM were not both trained"),
        "seed": config.seed,
        "generator": config.finetune.generator,
        "dataset": {
            split: [{"label": g.label, "attribute": g.attribute, "n": counts[g]} for g in groups]
            for split, counts in splits.items()
        },
        "data": data_facts(artifacts, inputs.dataset) | {"layout": _layout(inputs)},
        "discovered": discovered(inputs, predictions),
        "methods": list(entries.values()),
        "stages": [_stage_entry(name, artifact.record) for name, artifact in artifacts.items()],
        "synthetic_images": _use_of_images(inputs),
        "groups": synthesized["groups"],
        "synthesis": {key: synthesized[key] for key in ("trials", "codec", "copy_threshold", "probe_right")},
        "audit": read_audit(artifacts["audit"]),
        "settings": chosen_settings(artifacts["tune"]),
        "policies": compared_policies(artifacts["tune"]),
        "search_note": search_note(artifacts["tune"]),
        "config": config.model_dump(exclude={"out", "resources", "bench", "tracking"}),
        "checks": checks(inputs, predictions),
        "provenance": provenance(inputs),
    }
    return report | {"in_words": in_words(report)}


def _layout(inputs: Inputs) -> str:
    """The dataset's format; ``auto`` if it was to be recognised by an ingest that did not write down as what."""
    return str(inputs.artifacts["ingest"].record.get("layout") or inputs.config.data.format)


def _use_of_images(inputs: Inputs) -> dict[str, Any]:
    config, setting = inputs.config, chosen_settings(inputs.artifacts["tune"]).get("fairsynth")
    records = group_records(inputs.artifacts["synthesize"])
    compared = compared_policies(inputs.artifacts["tune"])
    # By prompts alone no number of images gives a group adapters.
    min_group = 0 if config.finetune.generator == "vanilla" else config.cluster.min_group
    use = use_of_images(used_as(setting, config.classify), records, min_group, compared)
    return use | {"line": TOLD, "would_help": []} if setting and config.classify.synthetic == "none" else use


def _stage_entry(name: str, record: dict[str, Any]) -> dict[str, Any]:
    kept = {key: record[key] for key in ("seconds", "startup_seconds", "units", "cached", "summary")}
    # Stages that a version before this one finished may not say how many workers they had.
    return {"name": name, **kept, **record["counts"], "workers": record.get("workers")}


def data_facts(artifacts: Mapping[str, Artifact], root: str) -> dict[str, Any]:
    """What ingest and embed set aside, and further facts of the data."""
    record = artifacts["ingest"].record
    return {
        "root": root,
        "counts": record["counts"],
        "reasons": record["reasons"],
        "severity": record["severity"],
        "remarks": [*record["remarks"], *artifacts["cluster"].record["remarks"]],
    }
