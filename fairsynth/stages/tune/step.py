"""Stage tune: the best setting of every method, searched on real and synthetic images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts, write_json
from fairsynth.classify.methods import TITLES, need_synthetic
from fairsynth.classify.policies import Setting, policies, policy_of
from fairsynth.config import ANY_IMAGE
from fairsynth.errors import DataError
from fairsynth.manifest import TRAIN, VALIDATION
from fairsynth.models.sources import backbone_revision
from fairsynth.stages.context import Context
from fairsynth.stages.stage import Made
from fairsynth.stages.synthesize.output import TABLE, accepted_mask, stream, unfiltered_mask
from fairsynth.stages.tune.output import PICTURE, TRIALS
from fairsynth.stages.tune.output import curves as curves
from fairsynth.work import Ran

if TYPE_CHECKING:
    from fairsynth.classify.packs import Packer
    from fairsynth.stages.tune.search import Search

VERSION = 8


def artifact(context: Context) -> Artifact:
    """Named by the images, the methods, their settings and the backbone."""
    config = context.config
    recipe = {"classify": config.classify.model_dump(), "tune": config.tune.model_dump(), "seed": config.seed}
    inputs: tuple[str, ...] = (
        ("synthesize", "ingest") if need_synthetic(config.tune.methods, config.classify) else ("ingest",)
    )
    inputs += ("cluster",) if config.data.attribute == "discover" else ()
    backbone = backbone_revision(config.classify)
    return context.artifact("tune", VERSION, inputs, recipe, backbone=backbone)


def make(context: Context, artifact: Artifact) -> Made:
    """Search every method's settings with the same number of trials."""
    from fairsynth.stages.tune.picture import draw, note, to_csv
    from fairsynth.stages.tune.search import Search

    config, units, manifest = context.config, artifact.units(), context.manifest
    units.sweep()
    before = units.done()
    _pack(context, artifact)
    search = Search(units.path, units, config.classify, config.tune, config.seed)
    trials = search.run(lambda some: context.run_trials(artifact, some), config.resources.checkpoint_seconds)
    best = [search.best(trials, method) for method in config.tune.methods]
    chosen = {trial.method: dict(trial.setting) for trial in best}
    write_json(artifact.path / "trials.json", [vars(trial) for trial in trials])
    (artifact.path / TRIALS).write_text(to_csv(trials, best), "utf-8")
    draw(trials, best, config.tune.select, artifact.path / PICTURE)
    artifact.clear("ray", "checkpoints")
    used = len(manifest.split(TRAIN)) + len(manifest.split(VALIDATION))
    each = f"{len(trials) // len(chosen)} trials for each of {', '.join(chosen)}"
    return Made(
        Counts(len(manifest), used, 0, len(manifest) - used),
        each + _policy(search, chosen.get("fairsynth")),
        Ran(len(units.done() - before), len(before)),
        facts={
            "settings": chosen,
            "policies": search.compared(trials),
            "worker_seconds": search.seconds(),
            "note": note(trials),
        },
    )


def _policy(search: Search, ours: Setting | None) -> str:
    """The search's choice for fairsynth, as a line for people; empty if it had no choice."""
    if ours is None or len(policies(search.classify)) == 1:
        return ""
    return f"; fairsynth: {', '.join(policy_of(ours, search.classify))}"


def _pack(context: Context, artifact: Artifact) -> None:
    """Decode all images of the search once."""
    from fairsynth.classify.packs import COLUMNS, Packer

    packer = Packer(artifact.units(), *context.group_names, context.config.classify.image_size)
    for split in (TRAIN, VALIDATION):
        rows = context.manifest.split(split).rows(*COLUMNS)
        packer.real(split, rows, context.dataset.images, context.config.data.images)
    if need_synthetic(context.config.tune.methods, context.config.classify):
        _pack_synthetic(context, packer)


def _pack_synthetic(context: Context, packer: Packer) -> None:
    """For fairsynth the accepted images; for FFR, which knows no filter, as many of those that were made."""
    from fairsynth.classify.packs import pack_name

    artifact, methods = context.artifacts["synthesize"], context.config.tune.methods
    masks = {"fairsynth": accepted_mask, "ffr": unfiltered_mask}
    for method in (method for method in masks if method in methods):
        mask = masks[method](artifact)
        if not mask.any() and method == "fairsynth" and context.config.classify.synthetic in (None, "none"):
            continue  # it learns from real images alone
        if not mask.any():
            raise DataError(
                f"no synthetic image was accepted, so {TITLES[method]} has nothing to learn from; raise filter.keep, or "
                "compare the other methods alone: --tune.methods '[erm, group-dro]'"
            )
        rows = pq.read_table(artifact.path / TABLE, columns=["label", "attribute"]).filter(pa.array(mask)).to_pylist()
        # They were checked when they were made; the rules for real images do not hold for them.
        files = enumerate(file for _, file in stream(artifact, mask))
        packer.pack(pack_name("synthetic", method), rows, files, ANY_IMAGE)
