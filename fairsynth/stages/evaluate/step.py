"""Stage evaluate: every method's best setting, trained from several seeds, predicts the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts, Units
from fairsynth.data.unit_rows import PlanRows, write_plan
from fairsynth.data.vectors import matrix
from fairsynth.errors import DataError
from fairsynth.manifest import TEST, Manifest
from fairsynth.stages.cluster.output import read_centres
from fairsynth.stages.context import Context
from fairsynth.stages.embed.output import embedding_of, with_embeddings
from fairsynth.stages.evaluate.output import (
    CLASSIFIERS,
    predictions_file,
    training_name,
    training_of,
    without_classifier,
)
from fairsynth.stages.stage import Made
from fairsynth.stages.tune.output import chosen_settings

VERSION = 5


def artifact(context: Context) -> Artifact:
    """Named by the chosen settings, the test images and the number of seeds."""
    recipe = context.config.evaluate.model_dump() | {"seed": context.config.seed}
    return context.artifact("evaluate", VERSION, ("tune", "ingest"), recipe)


def make(context: Context, artifact: Artifact) -> Made:
    """Train every method's best setting from each seed, and predict."""
    from fairsynth.classify.packs import COLUMNS, Packer

    config, units = context.config, artifact.units()
    methods, seeds = config.tune.methods, range(config.evaluate.seeds)
    test = _test_images(context, artifact)
    packer = Packer(units, *context.group_names, config.classify.image_size)
    packer.real(TEST, test.rows(*COLUMNS), context.dataset.images, config.data.images)
    names = [training_name(method, index) for index in seeds for method in methods]
    without_classifier(artifact, names)
    ordered = names if units.done().issuperset(names) else _longest_first(context, names)
    ran = context.run_trainings(artifact, ordered, _work(context, artifact, test))
    units.here(names)
    tables = [
        pq.read_table(units[training_name(method, index)] / "predictions.parquet")
        for method in methods
        for index in seeds
    ]
    pq.write_table(pa.concat_tables(tables), predictions_file(artifact))
    artifact.clear("ray", "checkpoints")
    artifact.bring(CLASSIFIERS)  # workers wrote them, on other nodes perhaps
    everything, all_tests = len(context.manifest), len(context.manifest.split(TEST))
    return Made(
        Counts(everything, len(test), all_tests - len(test), everything - all_tests),
        f"{len(methods)} methods x {len(seeds)} seeds on {len(test)} test images",
        ran,
        facts={"worker_seconds": {method: _seconds(units, method, seeds) for method in methods}},
    )


def _work(context: Context, artifact: Artifact, test: Manifest) -> Any:
    """Builds the work of a training inside its worker."""
    from fairsynth.stages.evaluate.final_training import EvaluateUnit

    config, tuned = context.config, context.artifacts["tune"]
    for name in tuned.units().done():
        if name.startswith("pack-"):  # compared here once, for all who read it
            _ = tuned.units()[name]
    # JSON keeps no order: the methods come in the config's.
    settings: dict[str, Mapping[str, float | str]] = {
        method: chosen_settings(tuned)[method] for method in config.tune.methods
    }
    return partial(
        EvaluateUnit,
        packs=tuned.units().path,
        settings=settings,
        tests=test.rows("image_id", "label", "attribute", "true_attribute"),
        labels=context.group_names[0],
        classify=config.classify,
        rule=config.tune.select,
        seed=config.seed,
        folder=artifact.path,
        checkpoint_seconds=config.resources.checkpoint_seconds,
    )


def _longest_first(context: Context, names: Sequence[str]) -> list[str]:
    """The trainings in the order in which they begin, so that all workers end at about the same time."""
    from fairsynth.classify.images import effort
    from fairsynth.classify.methods import phases
    from fairsynth.classify.packs import load_data

    tuned, classify = context.artifacts["tune"], context.config.classify
    chosen, packs = chosen_settings(tuned), tuned.units().path
    efforts = {
        method: effort(phases(method, setting, classify), load_data(packs, method))
        for method, setting in chosen.items()
    }
    return sorted(names, key=lambda name: -efforts[training_of(name)[0]])


def _seconds(units: Units, method: str, seeds: Sequence[int]) -> float:
    """Worker seconds of a method's trainings."""
    files = (units[training_name(method, index)] / "cost.parquet" for index in seeds)
    return sum(pq.read_table(file)["seconds"][0].as_py() for file in files)


def _test_images(context: Context, artifact: Artifact) -> Manifest:
    """The test split; with pseudo-attributes where attributes are discovered.

    For these, test images are embedded here, for scoring alone, and go to the nearest centre.
    """
    test = context.manifest.split(TEST)
    if context.config.data.attribute != "discover":
        return test
    table = _embedded(context, artifact, test)
    ids, labels = table.column("image_id").to_pylist(), dict(zip(*map(test.column, ("image_id", "label")), strict=True))
    centres = read_centres(context.artifacts["cluster"])
    assigned = dict(zip(ids, centres.assign([labels[i] for i in ids], matrix(table, "embedding")), strict=True))
    test = test.filter(i in assigned for i in test.column("image_id"))
    return test.replaced("attribute", [assigned[i] for i in test.column("image_id")])


def _embedded(context: Context, artifact: Artifact, test: Manifest) -> pa.Table:
    """Embeddings of test images. Raises DataError if too many have none."""
    config, units, plan = context.config, artifact.units(), artifact.path / "plan-test.parquet"
    rows, decode, work = embedding_of(test, context.dataset.storage, PlanRows(plan), config)
    names = write_plan(plan, rows, config.embed.unit_size, "kinds")
    context.run_units(artifact, names, work, decode)
    units.here(names)
    bad = pa.concat_tables([pq.read_table(units[name] / "bad.parquet") for name in names])
    pq.write_table(bad, artifact.path / "quarantine.parquet")
    if len(bad) > config.data.max_bad_fraction * len(test):
        raise DataError(
            f"{len(bad)} of {len(test)} test images have no usable embedding, more than data.max_bad_fraction "
            f"{config.data.max_bad_fraction:g} allows; bad_embedding speaks against models.clip or models.dtype (try --models.dtype "
            "float32); 'quarantine.parquet' of the stage lists them"
        )
    return pq.read_table(with_embeddings(units[name] / "embeddings.parquet" for name in names))
