"""Step finetune: an adapter for every cluster, after the class images they share, where these are asked for."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts
from fairsynth.engine.training import train_adapters
from fairsynth.engine.units import Ran, run_units
from fairsynth.errors import FairsynthError
from fairsynth.exports.model_card import model_card
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN
from fairsynth.stages.context import Context, Done, Stopwatch, found
from fairsynth.stages.finetune import plan as finetune_stage
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.ingest.step import embedding_files
from fairsynth.stages.views import new_folder, publish, shows

CLUSTERS = "clusters.parquet"


def finetune(context: Context) -> Done:
    """One adapter per cluster (or as the generator says)."""
    config = context.config
    recipe: dict[str, Any] = {"generator": "vanilla"}
    if config.finetune.generator != "vanilla":
        recipe = finetune_stage.recipe(config.finetune) | words(context) | {"seed": config.seed}
    if finetune_stage.needs_class_images(config.finetune):
        recipe["sampling"] = _sampling(context)
    artifact = context.artifact(
        "finetune", finetune_stage.VERSION, ("cluster", "embed"), recipe, **context.model_identity
    )
    if artifact.finished or context.lookup_only:
        if artifact.finished and not context.lookup_only and not shows(context.root / "adapters", artifact):
            _show_adapters(context, artifact)
        return found(artifact) if artifact.finished else Done(artifact)
    watch, _ = Stopwatch(context, artifact), artifact.open()
    jobs = planned_jobs(context)
    ran = _train(context, artifact, jobs)
    failed = _failed(context, artifact, jobs)
    for leftover in ("ray", "checkpoints"):
        shutil.rmtree(artifact.path / leftover, ignore_errors=True)
    _show_adapters(context, artifact)
    images = pq.read_metadata(context.artifacts["cluster"].path / CLUSTERS).num_rows
    used = sum(len(job.image_ids) for job in jobs if job.name not in failed)
    summary = f"{len(jobs) - len(failed)} adapters ({config.finetune.generator})" + (
        f", {len(failed)} failed" if failed else ""
    )
    remarks = [f"adapter {name} failed: {why}" for name, why in failed.items()]
    return watch.finish(Counts(images, used, 0, images - used), ran, summary, remarks=remarks)


def planned_jobs(context: Context) -> list[AdapterJob]:
    """The adapters that the config and the clusters call for."""
    clusters: dict[Group, dict[str, int]] = defaultdict(dict)
    for row in pq.read_table(context.artifacts["cluster"].path / CLUSTERS).to_pylist():
        clusters[Group(row["label"], row["attribute"])][row["image_id"]] = row["cluster"]
    config, counts = context.config, context.manifest.split(TRAIN).counts()
    return finetune_stage.plan_adapters(config.finetune, config.data, clusters, config.seed, counts)


def _train(context: Context, artifact: Artifact, jobs: Sequence[AdapterJob]) -> Ran:
    """Class images first, where they are asked for, then the adapters."""
    config, prompts, class_ran = context.config, dict[str, str](), Ran(0, 0, 0.0)
    if not jobs:
        return class_ran
    if finetune_stage.needs_class_images(config.finetune):
        from fairsynth.stages.finetune.class_images import ClassLatents, unit_names

        prompts = unit_names(job.class_prompt for job in jobs)
        make = partial(ClassLatents, config.models, config.finetune, config.synthesize, prompts, config.seed)
        class_ran = run_units(context.session, "finetune", artifact.units(), list(prompts), make)
    ran = train_adapters(
        context.session,
        jobs,
        config.models,
        config.finetune,
        artifact,
        [Path(p) for p in embedding_files(context.artifacts["embed"])],
        {prompt: name for name, prompt in prompts.items()},
    )
    startup = ran.startup_seconds + class_ran.startup_seconds
    return Ran(ran.made + class_ran.made, ran.cached + class_ran.cached, startup)


def _failed(context: Context, artifact: Artifact, jobs: Sequence[AdapterJob]) -> dict[str, str]:
    """Why adapters failed, by name. Raises FairsynthError if they are too many to go on without."""
    failed = {facts["name"]: facts["failed"] for facts in adapter_units(artifact) if facts["failed"]}
    most = context.config.finetune.max_failed_share * len(jobs)
    if len(failed) > most:
        name, why = next(iter(failed.items()))
        raise FairsynthError(
            f"{len(failed)} of {len(jobs)} adapters failed, more than finetune.max_failed_share allows; "
            f"{name}: {why}; lower finetune.{context.config.finetune.rate_name}"
        )
    return failed


def _sampling(context: Context) -> dict[str, Any]:
    """What class images depend on besides the finetune section."""
    config = context.config.synthesize
    return {
        "steps": config.steps,
        "guidance": config.guidance,
        "negative_prompt": config.negative_prompt,
        "unit_size": config.unit_size,
    }


def words(context: Context) -> dict[str, Any]:
    """What prompts are made of besides their templates."""
    data = context.config.data
    return {"label_names": data.label_names, "attribute_names": data.attribute_names}


def adapter_units(artifact: Artifact) -> list[dict[str, Any]]:
    """The facts of every adapter of a finetune artifact, by name, the failed ones included."""
    units = artifact.units()
    # Units that are no adapter have an equals sign in their name, which no adapter's has.
    return [finetune_stage.read_adapter(units[name]) for name in sorted(units.done()) if "=" not in name]


def _show_adapters(context: Context, artifact: Artifact) -> None:
    """Lay the adapters out for people: adapters/<group>/<cluster>/, and a card that describes them."""
    view, all_facts = new_folder(context.root / "adapters"), adapter_units(artifact)
    for facts in all_facts:
        folder = view / Group(facts["label"], facts["attribute"]).slug / str(facts["cluster"])
        shutil.copytree(artifact.units()[facts["name"]], folder)
    if all_facts:
        (view / "README.md").write_text(model_card(context.config, all_facts), "utf-8")
    publish(view, context.root / "adapters", artifact)
