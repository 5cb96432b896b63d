"""Steps tune and evaluate: from images to a fair classifier and its predictions."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Counts, Units, write_json
from fairsynth.classify.methods import SYNTHETIC, TITLES
from fairsynth.classify.policies import ENOUGH, Setting, policies, policy_of
from fairsynth.config import ANY_IMAGE, ImageRules
from fairsynth.data.location import same_content
from fairsynth.engine.units import Ran, run_together, run_units
from fairsynth.errors import DataError
from fairsynth.manifest import TEST, TRAIN, VALIDATION
from fairsynth.models.sources import revision
from fairsynth.stages.cluster.discovered import with_test_kinds
from fairsynth.stages.context import Context, Done, Stopwatch, found
from fairsynth.stages.synthesize.output import TABLE, accepted_mask, stream, unfiltered_mask

if TYPE_CHECKING:
    from fairsynth.engine.search import Search

TUNE_VERSION = EVALUATE_VERSION = 4
TRIALS, PICTURE = "trials.csv", "search.png"


def _pack_real(context: Context, units: Units, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Read in the files' order, each checked against what ingest saw, and put in the rows' order."""
    places = sorted(range(len(rows)), key=lambda i: (rows[i]["path"], i))
    contents = ((i, same_content(context.images, rows[i])) for i in places)
    _pack(context, units, name, rows, contents, context.config.data.images)


def _pack(
    context: Context,
    units: Units,
    name: str,
    rows: Sequence[dict[str, Any]],
    contents: Iterable[tuple[int, bytes]],
    rules: ImageRules,
) -> None:
    from fairsynth.classify.packs import pack

    labels, attributes = context.group_names
    units.commit(
        f"pack-{name}",
        lambda folder: pack(
            folder,
            contents,
            [r["label"] for r in rows],
            [r["attribute"] for r in rows],
            labels,
            attributes,
            context.config.classify.image_size,
            rules,
        ),
    )


def tune(context: Context) -> Done:
    """The best setting of every method, searched with the same number of trials."""
    config = context.config
    recipe = {"classify": config.classify.model_dump(), "tune": config.tune.model_dump(), "seed": config.seed}
    synthetic = not SYNTHETIC.isdisjoint(config.tune.methods)
    inputs: tuple[str, ...] = ("synthesize", "ingest") if synthetic else ("ingest",)
    inputs += ("cluster",) if config.data.attribute == "discover" else ()
    artifact = context.artifact(
        "tune",
        TUNE_VERSION,
        inputs,
        recipe,
        backbone=revision(config.classify.backbone, config.classify.backbone_revision),
    )
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    from fairsynth.engine.search import Search
    from fairsynth.stages.tune.halving import best
    from fairsynth.stages.tune.picture import draw, to_csv

    watch, _ = Stopwatch(context, artifact), artifact.open()
    units = artifact.units()
    units.sweep()
    before = units.done()
    for split in (TRAIN, VALIDATION):
        _pack_real(context, units, split, context.manifest.split(split).rows())
    if synthetic:
        _pack_synthetic(context, units)
    search = Search(units.path, units, config.classify, config.tune, config.seed)
    trials = search.run(context.session)
    chosen = {
        method: dict(best([trial for trial in trials if trial.method == method], config.tune.select).setting)
        for method in config.tune.methods
    }
    write_json(artifact.path / "trials.json", [vars(trial) for trial in trials])
    (artifact.path / TRIALS).write_text(to_csv(trials, config.tune.select), "utf-8")
    draw(trials, config.tune.select, artifact.path / PICTURE)
    for folder in ("ray", "checkpoints"):
        shutil.rmtree(artifact.path / folder, ignore_errors=True)
    train = len(context.manifest.split(TRAIN)) + len(context.manifest.split(VALIDATION))
    counts = Counts(len(context.manifest), train, 0, len(context.manifest) - train)
    return watch.finish(
        counts,
        Ran(len(units.done() - before), len(before), 0.0),
        f"{len(trials) // len(chosen)} trials for each of {', '.join(chosen)}{_policy(search, chosen.get('fairsynth'))}",
        settings=chosen,
        worker_seconds=search.seconds(),
    )


def _policy(search: Search, ours: Setting | None) -> str:
    """What the search chose for fairsynth, for people; nothing if it had no choice."""
    every = policies(search.classify)
    if ours is None or len(every) == 1:
        return ""
    chosen = f"; fairsynth: {', '.join(policy_of(ours, search.classify))}"
    if search.left_open != every:
        chosen += f" (not searched: a group has under {ENOUGH} validation images)"
    return chosen


def _pack_synthetic(context: Context, units: Units) -> None:
    """For fairsynth the accepted images; for FFR, which knows no filter, as many of those that were made."""
    artifact, methods = context.artifacts["synthesize"], context.config.tune.methods
    masks = {"fairsynth": accepted_mask, "ffr": unfiltered_mask}
    for method in (method for method in masks if method in methods):
        mask = masks[method](artifact)
        if not mask.any():
            raise DataError(
                f"no synthetic image was accepted, so {TITLES[method]} has nothing to learn from; raise filter.keep, or "
                "compare the other methods alone: --tune.methods '[erm, group-dro]'"
            )
        told = pq.read_table(artifact.path / TABLE, columns=["label", "attribute"]).filter(pa.array(mask))
        # They were judged when they were made; the rules for real images do not hold for them.
        contents = enumerate(file for _, file in stream(artifact, mask))
        _pack(context, units, f"synthetic-{method}", told.to_pylist(), contents, ANY_IMAGE)


def evaluate(context: Context) -> Done:
    """Every method's best setting, trained from several seeds, on the test split."""
    config = context.config
    artifact = context.artifact(
        "evaluate", EVALUATE_VERSION, ("tune", "ingest"), config.evaluate.model_dump() | {"seed": config.seed}
    )
    if artifact.finished or context.lookup_only:
        return found(artifact) if artifact.finished else Done(artifact)
    from fairsynth.stages.evaluate.final_training import EvaluateUnit

    watch, folder = Stopwatch(context, artifact), artifact.open()
    units, tuned = artifact.units(), context.artifacts["tune"]
    discovering = config.data.attribute == "discover"
    test = with_test_kinds(context, artifact) if discovering else context.manifest.split(TEST)
    _pack_real(context, units, TEST, test.rows())
    # JSON keeps no order: the methods come in the config's.
    settings: dict[str, dict[str, float | str]] = {
        method: tuned.record["settings"][method] for method in config.tune.methods
    }
    names = [f"{method}-{index}" for index in range(config.evaluate.seeds) for method in settings]
    tests = [{key: row[key] for key in ("image_id", "label", "attribute", "true_attribute")} for row in test.rows()]
    make = partial(
        EvaluateUnit,
        tuned.units().path,
        units["pack-test"],
        settings,
        tests,
        context.group_names[0],
        config.classify,
        config.tune.select,
        config.seed,
        folder,
        config.resources.checkpoint_seconds,
    )
    run = run_together if config.resources.workers_per_classifier > 1 else run_units
    ran = run(context.session, "evaluate", units, names, make)
    tables = [
        pq.read_table(units[f"{method}-{index}"] / "predictions.parquet")
        for method in settings
        for index in range(config.evaluate.seeds)
    ]
    pq.write_table(pa.concat_tables(tables), folder / "predictions.parquet")
    for name in ("ray", "checkpoints"):
        shutil.rmtree(folder / name, ignore_errors=True)
    everything, all_tests = len(context.manifest), len(context.manifest.split(TEST))
    counts = Counts(everything, len(test), all_tests - len(test), everything - all_tests)
    seconds = {
        method: sum(
            pq.read_table(units[f"{method}-{i}"] / "cost.parquet")["seconds"][0].as_py()
            for i in range(config.evaluate.seeds)
        )
        for method in settings
    }
    return watch.finish(
        counts,
        ran,
        f"{len(settings)} methods x {config.evaluate.seeds} seeds on {len(test)} test images",
        worker_seconds=seconds,
    )
