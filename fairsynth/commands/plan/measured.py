"""Rates from the records of an earlier run: seconds, workers and the work of each finished stage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import STAGES, Units, finished_records
from fairsynth.commands.plan.adapters import clusters_tried
from fairsynth.commands.plan.rates import MEASURED_SPREAD, Rate
from fairsynth.commands.plan.rows import guided_steps
from fairsynth.commands.plan.search import Images, final_cost, search_cost, smallest
from fairsynth.config import ClassifyConfig, ClusterConfig, RunConfig, TuneConfig
from fairsynth.errors import ConfigError
from fairsynth.groups import Group
from fairsynth.manifest import TEST, TRAIN, VALIDATION
from fairsynth.stages.finetune.output import ADAPTER_FILE
from fairsynth.store.mirror import here
from fairsynth.store.pool import each

Record = Mapping[str, Any]
# Stages that one process does, whatever workers there are.
ALONE = ("cluster", "audit", "report")


def measured_rates(run: Path, identity: Mapping[str, str], backbone: str, config: RunConfig) -> dict[str, Rate]:
    """Rates of those stages of a run that did the same kind of work: same models and sizes (``identity``, ``backbone``).

    Raises ConfigError for a folder without finished stages.
    """
    records = _records(run)
    if not records:
        raise ConfigError(
            f"--rates-from '{run}' has no finished stages (stages/*/artifact.json); give the output folder of an earlier run"
        )
    rates: dict[str, Rate] = {}
    for stage in records:
        # What evaluate trains is named by tune's record.
        kind = "tune" if stage == "evaluate" else stage
        with suppress(KeyError, TypeError, ValueError, OSError, pa.ArrowException):  # another version's record
            if kind in records and _alike(kind, records[kind][1], identity, backbone, config):
                rates |= _rate(run, stage, records)
    return rates


def _rate(run: Path, stage: str, records: Mapping[str, tuple[Path, Record]]) -> dict[str, Rate]:
    """The rate of a stage; none if its record does not say."""
    folder, record = records[stage]
    pieces, spent = _pieces(stage, folder, record, records), _worker_seconds(record)
    made = 1 - record["cached"] / max(1, record["units"])
    if not pieces or spent <= 0 or made <= 0:
        return {}
    start = max(0.0, record["seconds"] - spent / _workers(record))
    return {stage: Rate(pieces * made / spent, start, MEASURED_SPREAD, f"measured in {run}", measured=True)}


def _records(run: Path) -> dict[str, tuple[Path, Record]]:
    """The newest record of each stage, with its folder."""
    found: dict[str, tuple[Path, Record]] = {}
    for stage in STAGES:
        if records := finished_records(run, stage):
            found[stage] = max(records, key=lambda one: one[1]["finished_at"])
    return found


def _alike(stage: str, record: Record, identity: Mapping[str, str], backbone: str, config: RunConfig) -> bool:
    if stage in ("embed", "finetune", "synthesize"):
        return all(record["extra"].get(name) == value for name, value in identity.items())
    if stage == "tune":
        known = record["config"]["classify"]["image_size"]
        return bool(record["extra"].get("backbone") == backbone and known == config.classify.image_size)
    return True


def _worker_seconds(record: Record) -> float:
    """Seconds of all workers, without start-up."""
    known = record.get("worker_seconds")
    if known:
        return float(sum(known.values()))
    return float((record["seconds"] - record["startup_seconds"]) * _workers(record))


def _workers(record: Record) -> int:
    return 1 if record["stage"] in ALONE else int(record["workers"])


def _pieces(stage: str, folder: Path, record: Record, records: Mapping[str, tuple[Path, Record]]) -> float:
    """The work of a finished stage, as ``stages.rows`` counts what is planned."""
    counts = record["counts"]
    if stage in ("ingest", "audit", "embed"):
        return float(counts["input" if stage == "ingest" else "used"])
    if stage == "report":
        return 1.0
    if stage == "finetune":
        return _samples(folder, record["config"])
    if stage == "synthesize":
        made = counts["input"] + sum(trial["made"] for trial in record["trials"])
        how = record["config"]["synthesize"]
        return float(made * guided_steps(how["steps"], how["guidance"], how["guidance_until"]))
    if "ingest" not in records:
        return 0.0
    splits = _counts(records["ingest"][0])
    if stage == "cluster":
        settings = ClusterConfig(**{k: v for k, v in record["config"].items() if k in ClusterConfig.model_fields})
        config = RunConfig(cluster=settings)
        return float(sum(n * clusters_tried(config, n) for n in splits[TRAIN].values()))
    return _visits(stage, records, splits)


def _visits(stage: str, records: Mapping[str, tuple[Path, Record]], splits: Mapping[str, Counter[Group]]) -> float:
    if "tune" not in records:
        return 0.0
    known = records["tune"][1]["config"]
    made = records["synthesize"][1]["counts"]["used"] if "synthesize" in records else 0
    train, validation, test = (sum(splits[split].values()) for split in (TRAIN, VALIDATION, TEST))
    most = max(splits[TRAIN].values(), default=0)
    filling, least = sum(most - n for n in splits[TRAIN].values()), smallest(splits[TRAIN], splits[VALIDATION])
    images = Images(train, validation, test, made, filling, least)
    config = RunConfig(
        classify=ClassifyConfig(**known["classify"]), tune=TuneConfig(**known["tune"]), seed=known["seed"]
    )
    if stage == "tune":
        return search_cost(config, images).visits
    seeds = records["evaluate"][1]["config"]["seeds"]
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"seeds": seeds})})
    return final_cost(config, images).visits


def _counts(ingest: Path) -> dict[str, Counter[Group]]:
    table = pq.read_table(here(ingest / "manifest.parquet"), columns=["split", "label", "attribute"])
    counts: dict[str, Counter[Group]] = {split: Counter() for split in (TRAIN, VALIDATION, TEST)}
    for row in table.group_by(table.column_names).aggregate([([], "count_all")]).to_pylist():
        counts[row["split"]][Group(row["label"], row["attribute"])] = row["count_all"]
    return counts


def _samples(folder: Path, recipe: Mapping[str, Any]) -> float:
    """Images that went through training: own and prior ones of each step of each adapter."""
    if recipe["generator"] == "vanilla":
        return 0.0
    prior = (recipe.get("prior_batch_size") or recipe["batch_size"]) if recipe.get("prior_weight", 0) > 0 else 0
    total = 0.0
    units = Units(folder / "units")
    names = sorted(units.done())
    contents = each(lambda name: units.read(name, ADAPTER_FILE), names)
    for name, content in zip(names, contents, strict=True):
        if content is None:  # a unit that is no adapter
            continue
        facts = json.loads(content)
        if name == "shared=":
            total += recipe["shared"]["steps"] * recipe["shared"]["batch_size"]
        else:
            total += facts["steps"] * (recipe["batch_size"] + prior)
    return total
