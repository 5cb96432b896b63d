"""Step finetune: an adapter for every cluster, after the class images they share."""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts
from fairsynth.engine.training import read_adapter, train_adapters
from fairsynth.engine.units import Ran, run_units
from fairsynth.groups import Group
from fairsynth.stages import finetune as finetune_stage
from fairsynth.steps.context import Context, Done, Stopwatch, found
from fairsynth.steps.prepare import embedding_files
from fairsynth.steps.views import new_folder, publish, shows

CLASS_PREFIX = "class="  # no adapter is called so: a slug has no equals sign


def finetune(context: Context) -> Done:
    """One adapter per cluster (or as the generator says), after the class images they share."""
    config = context.config
    recipe: dict[str, Any] = {"generator": "vanilla"}
    if config.finetune.generator != "vanilla":
        recipe = (
            config.finetune.model_dump(exclude={"checkpoint_every"})
            | words(context)
            | {"seed": config.seed, "sampling": _sampling(context)}
        )
    artifact = context.artifact(
        "finetune", finetune_stage.VERSION, ("cluster", "embed"), recipe, **context.model_identity
    )
    if artifact.finished or context.lookup_only:
        if artifact.finished and not context.lookup_only and not shows(context.root / "adapters", artifact):
            _show_adapters(context, artifact)
        return found(artifact) if artifact.finished else Done(artifact)
    watch, _ = Stopwatch(context, artifact), artifact.open()
    clusters: dict[Group, dict[str, int]] = defaultdict(dict)
    for row in pq.read_table(context.artifacts["cluster"].path / "clusters.parquet").to_pylist():
        clusters[Group(row["label"], row["attribute"])][row["image_id"]] = row["cluster"]
    jobs = finetune_stage.plan_adapters(config.finetune, config.data, clusters, config.seed)
    prompts, class_ran = {}, Ran(0, 0, 0.0)
    if jobs and finetune_stage.uses_prior(config.finetune):
        prompts = {
            CLASS_PREFIX + hashlib.sha256(p.encode()).hexdigest()[:12]: p
            for p in sorted({job.class_prompt for job in jobs})
        }
        from fairsynth.stages.adapter_training import ClassLatents

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
    for leftover in ("ray", "checkpoints"):
        shutil.rmtree(artifact.path / leftover, ignore_errors=True)
    _show_adapters(context, artifact)
    images, used = sum(map(len, clusters.values())), sum(len(job.image_ids) for job in jobs)
    total = Ran(
        ran.made + class_ran.made, ran.cached + class_ran.cached, ran.startup_seconds + class_ran.startup_seconds
    )
    return watch.finish(
        Counts(images, used, 0, images - used), total, f"{len(jobs)} adapters ({config.finetune.generator})"
    )


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
    """The facts of every adapter of a finetune artifact, by name."""
    units = artifact.units()
    return [read_adapter(units[name]) for name in sorted(units.done()) if not name.startswith(CLASS_PREFIX)]


def _show_adapters(context: Context, artifact: Artifact) -> None:
    """Lay the adapters out for people: adapters/<group>/<cluster>/."""
    view = new_folder(context.root / "adapters")
    for facts in adapter_units(artifact):
        folder = view / Group(facts["label"], facts["attribute"]).slug / str(facts["cluster"])
        shutil.copytree(artifact.units()[facts["name"]], folder)
    publish(view, context.root / "adapters", artifact)
