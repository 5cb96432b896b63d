"""Which stages an output folder holds finished for a config, and how many units of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairsynth.artifacts import Artifact, finished_records
from fairsynth.commands.plan.adapters import Sizes
from fairsynth.commands.plan.counts import Counted
from fairsynth.config import RunConfig
from fairsynth.data.metadata import Metadata
from fairsynth.manifest import SPLITS
from fairsynth.stages.finetune.output import TEXTS_UNIT, LeftOut, left_out_of
from fairsynth.store.mirror import place_of

_CLASS_UNITS = ("class=", "shared=")


@dataclass(frozen=True)
class Finished:
    """``records``: of finished stages. ``units``: committed units of stages that are not finished.

    ``counted``, ``clusters`` and ``left_out``: what ingest and cluster found, where they are finished.
    """

    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    units: Mapping[str, int] = field(default_factory=dict)
    counted: Counted | None = None
    clusters: Sizes | None = None
    left_out: LeftOut = field(default_factory=dict)


def finished_stages(config: RunConfig, root: Path, metadata: Metadata | None) -> Finished:
    """What is there of this config's run. Writes nothing; without a finished ingest stage nothing is looked up.

    ``metadata``: if it was read already; else it is read if need be. Naming ingest's artifact asks for every file's size and
    time, as a run does. Raises what a run raises then.
    """
    if not finished_records(root, "ingest"):
        return Finished()
    from fairsynth.pipeline import STAGES
    from fairsynth.stages.context import opened

    records, units = dict[str, Mapping[str, Any]](), dict[str, int]()
    counted, clusters = None, None
    left_out: LeftOut = {}
    with opened(config, metadata) as context:
        if place_of(root):  # the built-in dataset, which names all that follows, is written by each machine
            STAGES["ingest"].before(context)
        for name, stage in STAGES.items():
            try:
                artifact = stage.artifact(context)
            except KeyError:  # it is named by a stage that is not finished
                continue
            if not artifact.finished:
                units[name] = _units(name, artifact)
                continue
            context.artifacts[name], records[name] = artifact, artifact.record
        if "ingest" in records:
            manifest = context.manifest
            splits = {split: manifest.split(split).counts() for split in SPLITS}
            counted = Counted(splits, sum(sum(groups.values()) for groups in splits.values()))
        if "cluster" in records:
            clusters = _sizes(context.artifacts["cluster"])
            left_out = left_out_of(config, context.artifacts["cluster"])
    return Finished(records, units, counted, clusters, left_out)


def _units(stage: str, artifact: Artifact) -> int:
    """Committed units that count as work: packs, prompts and what a trial was at a rung do not."""
    names = artifact.units().done()
    if stage == "finetune":
        return sum("=" not in name or name.startswith(_CLASS_UNITS) for name in names)
    return sum(not name.startswith("pack-") and "-after-" not in name and name != TEXTS_UNIT for name in names)


def _sizes(artifact: Artifact) -> Sizes:
    from collections import Counter

    from fairsynth.stages.cluster.output import read_clusters

    return {
        group: [n for _, n in sorted(Counter(images.values()).items())]
        for group, images in read_clusters(artifact).items()
    }
