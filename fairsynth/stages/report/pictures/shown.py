"""What the page shows beside report.json: pictures, maps, the search, and a bench if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairsynth.config.report import Faces
from fairsynth.data.location import ImageReader
from fairsynth.manifest import TRAIN
from fairsynth.stages.cluster.output import read_clusters
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.report.pictures.drawn import draw
from fairsynth.stages.report.pictures.embedding_map import Map, maps
from fairsynth.stages.report.pictures.grids import PER_CLUSTER, Grid, grids
from fairsynth.stages.report.pictures.plots import Curve, Trials, read_bench, read_trials
from fairsynth.stages.tune.output import TRIALS


@dataclass(frozen=True)
class Shown:
    """Empty parts are left out of the page, or it says that there is nothing."""

    grids: Sequence[Grid] = ()
    maps: Sequence[Map] = ()
    trials: Sequence[Trials] = ()
    curves: Sequence[Curve] = ()
    faces: Faces = "shown"
    seed: int = 0


def shown(inputs: Inputs, images: ImageReader, bench: str) -> Shown:
    """All that the page shows. ``images``: reads real images; ``bench``: the text of bench.json, empty without one.

    Raises DataError for a real image that is not what it was when it was ingested.
    """
    artifacts, config = inputs.artifacts, inputs.config
    clusters, faces = read_clusters(artifacts["cluster"]), config.report.faces
    own_adapters = config.finetune.generator == "clustered-dreambooth"
    train = inputs.manifest.split(TRAIN)
    drawn = draw(artifacts["synthesize"], train, clusters, config.seed, PER_CLUSTER, own_adapters)
    return Shown(
        grids=grids(drawn, artifacts["synthesize"], images, faces),
        maps=maps(drawn, artifacts["embed"], artifacts["synthesize"], clusters),
        trials=read_trials(artifacts["tune"].path / TRIALS, config.tune.select),
        curves=read_bench(bench) if bench else (),
        faces=faces,
        seed=config.seed,
    )
