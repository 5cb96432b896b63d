"""Stage finetune: class images where the config asks for them, then an adapter for every cluster and one for all groups."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fairsynth.artifacts import Artifact, Counts
from fairsynth.config import RunConfig
from fairsynth.errors import FairsynthError
from fairsynth.exports.model_card import model_card
from fairsynth.groups import Group
from fairsynth.stages.cluster.output import read_clusters
from fairsynth.stages.context import Context, Room
from fairsynth.stages.embed.output import embedded_groups, embedding_files
from fairsynth.stages.finetune.jobs import AdapterJob, compiling, lots, needs_class_images, recipe, shared_settings
from fairsynth.stages.finetune.output import (
    SHARED,
    adapter_facts,
    class_units,
    copy_adapter,
    has_shared,
    left_out_of,
    left_out_remarks,
    needs_shared,
    planned_jobs,
    planned_shared,
    read_adapter,
    words,
)
from fairsynth.stages.finetune.output import curves as curves
from fairsynth.stages.finetune.worker import LotTask, reached, train_lot
from fairsynth.stages.stage import Made, check_prompts
from fairsynth.stages.views import is_current, new_folder, publish
from fairsynth.work import Ran, startup

VERSION = 2
# Threads that an adapter alone on its machine has at most.
MOST_THREADS = 64


def artifact(context: Context) -> Artifact:
    """Named by the clusters, the latents, the models, and the settings that adapters depend on."""
    config = context.config
    asked: dict[str, Any] = {"generator": "vanilla"}
    if config.finetune.generator != "vanilla":
        asked = recipe(config.finetune) | words(config.data) | {"seed": config.seed}
        if needs_shared(config):
            asked["shared"] = config.shared.model_dump(exclude={"use", "guidance"})
    if needs_class_images(config.finetune):
        asked["sampling"] = _sampling(config)

    def named(by: Mapping[str, Any]) -> Artifact:
        return context.artifact("finetune", VERSION, ("cluster", "embed"), by, **context.model_identity)

    nobodys, whole = sorted(left_out_of(config, context.artifacts["cluster"])), named(asked)
    # What decides it, the filter's settings and routes, renames the stage only if that changes; all serve as well as some.
    return named(asked | {"left_out": nobodys}) if nobodys and not whole.finished else whole


def make(context: Context, artifact: Artifact) -> Made:
    """One adapter per cluster (or as the generator says)."""
    check_prompts(context)
    clusters, generator = context.artifacts["cluster"], context.config.finetune.generator
    jobs = planned_jobs(context.config, clusters, context.manifest)
    group_of = embedded_groups(context.artifacts["embed"], context.manifest)
    ran = _train(context, artifact, jobs, planned_shared(context.config, clusters, group_of))
    failed = _failed(context, artifact, jobs)
    for name, why in failed.items():
        context.unit_failed(artifact, name, why)
    artifact.clear("ray", "checkpoints")
    images = sum(map(len, read_clusters(clusters).values()))
    used = sum(len(job.image_ids) for job in jobs if job.name not in failed)
    summary = f"{len(jobs) - len(failed)} adapters ({generator})" + (f", {len(failed)} failed" if failed else "")
    remarks = left_out_remarks(left_out_of(context.config, clusters), context.config.filter.least_recognised)
    remarks += [f"adapter {name} failed: {why}" for name, why in failed.items()]
    if has_shared(artifact):
        summary += ", 1 for all groups"
    elif SHARED in artifact.units().done():
        why = read_adapter(artifact.units()[SHARED])["failed"]
        remarks.append(f"the adapter for all groups failed: {why}; lower shared.learning_rate")
    return Made(Counts(images, used, 0, images - used), summary, ran, facts={"remarks": remarks})


def show(context: Context, artifact: Artifact, fresh: bool) -> None:
    """Lay the adapters out for people: adapters/<group>/<cluster>/, and a card that describes them."""
    target = context.root / "adapters"
    if not fresh and is_current(target, artifact):
        return
    view, all_facts, shared = new_folder(target), adapter_facts(artifact), has_shared(artifact)
    for facts in all_facts:
        folder = view / Group(facts["label"], facts["attribute"]).slug / str(facts["cluster"])
        copy_adapter(artifact.units()[facts["name"]], folder)
    if shared:
        copy_adapter(artifact.units()[SHARED], view / "shared")
    if all_facts or shared:
        prompts = read_adapter(artifact.units()[SHARED])["prompts"] if shared else ()
        layout = str(context.artifacts["ingest"].record.get("layout"))
        (view / "README.md").write_text(model_card(context.config, all_facts, prompts, layout), "utf-8")
    publish(view, target, artifact)


def _train(context: Context, artifact: Artifact, jobs: Sequence[AdapterJob], shared: AdapterJob | None) -> Ran:
    """Class images first, where the config asks for them, then the adapters."""
    config, prompts, ran = context.config, dict[str, str](), Ran()
    if needs_class_images(config.finetune) and jobs:
        from fairsynth.stages.finetune.class_images import ClassLatents

        prompts = class_units(job.class_prompt for job in jobs)
        make = partial(ClassLatents, config.models, config.finetune, config.synthesize, prompts, config.seed)
        ran = context.run_units(artifact, list(prompts), make)
    embeddings = embedding_files(context.artifacts["embed"])
    names = {text: name for name, text in prompts.items()}
    return ran + train_adapters(context, artifact, jobs, embeddings, names, shared)


def train_adapters(
    context: Context,
    artifact: Artifact,
    jobs: Sequence[AdapterJob],
    embeddings: Sequence[Path],
    class_units: Mapping[str, str],
    shared: AdapterJob | None = None,
) -> Ran:
    """Train every adapter that has no unit yet; ``class_units`` names the unit with the latents of each class prompt.

    ``shared``: the adapter that all groups share; it has a lot of its own.
    Raises FairsynthError or InfrastructureError once all lots have ended, if one of them failed.
    """
    everyone = [*jobs, *([shared] if shared else [])]
    units, names = artifact.units(), {job.name for job in everyone}
    done = units.done()
    if names <= done:
        return Ran(0, len(names))
    units.sweep()
    full, resources = context.config.finetune.parameters == "full", context.config.resources
    room = context.room(
        resources.workers_per_cluster if full else 1,
        "resources.workers_per_cluster",
        lanes=1 if full else max(len(jobs), MOST_THREADS if shared else 1),
    )
    began = time.time()
    beside = shared is not None and bool(jobs) and room.lanes > 1
    tasks = _lot_tasks(context, artifact, jobs, shared, room, beside, embeddings, class_units)
    if beside:
        room = replace(room, worker=replace(room.worker, cpus=room.worker.cpus / 2), side_by_side=2)
    left = [task for task in tasks if any(job.name not in done for job in task.jobs)]
    work = {task.name: partial(train_lot, task) for task in left}
    ended = context.run_jobs(artifact, work, room, len(names), partial(reached, artifact.path, names))
    first = min(_without_failures(ended))
    return Ran(len(names - done), len(names & done), startup(began, first))


def _lot_tasks(
    context: Context,
    artifact: Artifact,
    jobs: Sequence[AdapterJob],
    shared: AdapterJob | None,
    room: Room,
    beside: bool,
    embeddings: Sequence[Path],
    class_units: Mapping[str, str],
) -> list[LotTask]:
    """The adapters dealt to lots; the shared one has a lot of its own, the first to begin, for it takes the longest.

    ``beside``: it trains beside a lot that has all cores, a lane each, with half as many threads. One adapter cannot make
    full use of more, and whichever lot ends first leaves its cores to the other.
    """
    config = context.config
    one_by_one = config.finetune.parameters == "full"
    cut = lots(jobs, room.side_by_side, 1 if one_by_one else config.resources.adapters_per_run)
    of_lot = partial(
        LotTask,
        prompts=tuple(sorted({text for job in (*jobs, *([shared] if shared else [])) for text in job.texts})),
        models=config.models,
        config=config.finetune,
        stage=artifact.path,
        embeddings=tuple(embeddings),
        class_units=class_units,
        threads=room.worker.threads,
        gpus=room.worker.gpus,
        lanes=min(room.lanes, max(1, len(jobs))),
        side_by_side=2 if beside else min(room.side_by_side, len(cut) + bool(shared)),
        at_once=config.resources.adapters_at_once,
    )
    hows = [None] * len(cut) if one_by_one else compiling(cut, config.finetune, config.models, config.resources)
    tasks = [of_lot(tuple(lot), compiling=how) for lot, how in zip(cut, hows, strict=True)]
    if shared is None:
        return tasks
    settings, threads = shared_settings(config.finetune, config.shared), room.worker.threads * room.lanes
    threads = threads // 2 if beside else threads
    (how,) = compiling([(shared,)], settings, config.models, config.resources)
    return [of_lot((shared,), config=settings, threads=threads, lanes=1, compiling=how), *tasks]


def _without_failures(ended: Sequence[float | FairsynthError]) -> list[float]:
    """When each lot began. Raises an error like the first failure, if any."""
    failures = [result for result in ended if isinstance(result, FairsynthError)]
    if failures:
        what = f"stage finetune failed in {len(failures)} of {len(ended)} lots: "
        raise type(failures[0])(what + str(failures[0]).removeprefix("stage finetune failed: ")) from failures[0]
    return [result for result in ended if not isinstance(result, FairsynthError)]


def _failed(context: Context, artifact: Artifact, jobs: Sequence[AdapterJob]) -> dict[str, str]:
    """Why adapters failed, by name. Raises FairsynthError if more failed than the config allows."""
    failed = {facts["name"]: facts["failed"] for facts in adapter_facts(artifact) if facts["failed"]}
    most = context.config.finetune.max_failed_share * len(jobs)
    if len(failed) > most:
        name, why = next(iter(failed.items()))
        raise FairsynthError(
            f"{len(failed)} of {len(jobs)} adapters failed, more than finetune.max_failed_share allows; "
            f"{name}: {why}; lower finetune.{context.config.finetune.rate_name}"
        )
    return failed


def _sampling(config: RunConfig) -> dict[str, Any]:
    """What class images depend on besides the finetune section."""
    how = config.synthesize
    return {
        "steps": how.steps,
        "guidance": how.guidance,
        "negative_prompt": how.negative_prompt,
        "unit_size": how.unit_size,
    }
