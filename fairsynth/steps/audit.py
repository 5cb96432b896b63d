"""Step audit: the accepted images measured, beside real images that nothing learnt from. Changes no verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact, Counts, write_json
from fairsynth.config import ANY_IMAGE
from fairsynth.data.copies import CopyDetector, thumbnails
from fairsynth.data.decode import decode
from fairsynth.engine.units import Ran, run_local, run_units
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, VALIDATION
from fairsynth.models.sources import DEMO
from fairsynth.prompts import fill
from fairsynth.stages import audit as stage
from fairsynth.stages.audit import Images
from fairsynth.stages.copy_audit import TestDetector, TestImages
from fairsynth.stages.embed import same_content
from fairsynth.stages.probe import fit_probe, halves
from fairsynth.steps import judging
from fairsynth.steps.accepted import accepted_table, read_files
from fairsynth.steps.context import Context, Done, Stopwatch, found
from fairsynth.steps.finetune import planned_jobs
from fairsynth.steps.real import RealImages, real_images
from fairsynth.steps.synthetic_view import show_audit
from fairsynth.vectors import matrix

RESULT, UNIT = "audit.json", "self-test"
# Most images of a group that are looked at, and most that are compared with (so many) training images one by one.
PER_GROUP, COPIES_PER_GROUP, TRAINING = 2000, 300, 4000
# Training images that are planted, in every kind of disguise; held-out images that must not be taken for copies.
PLANTED, HELD_OUT = 60, 400
NEAREST = 20


def audit(context: Context) -> Done:
    """Agreement, fidelity, shortcuts and copies of the accepted images, per group and per cluster."""
    synthesized = context.artifacts["synthesize"]
    artifact = context.artifact(
        "audit", stage.VERSION, ("synthesize", "embed", "ingest"), {"seed": context.config.seed}
    )
    if artifact.finished or context.lookup_only:
        if artifact.finished and not context.lookup_only:
            show_audit(context, synthesized, privacy(read_audit(artifact)))
        return found(artifact) if artifact.finished else Done(artifact)
    watch, folder = Stopwatch(context, artifact), artifact.open()
    table = accepted_table(synthesized)
    rows = _sampled(table)
    seen = _seen(context)
    ran = _test_detector(context, artifact, seen)
    embeddings = _embeddings(synthesized, rows)
    result = _figures(context, rows, embeddings, seen, artifact)
    result["copies"] = _copies(context, artifact, rows, embeddings, seen.train)
    result["warnings"] = stage.warnings(result)
    write_json(folder / RESULT, result)
    show_audit(context, synthesized, privacy(result))
    counts = Counts(table.num_rows, len(rows), 0, table.num_rows - len(rows))
    test = result["copies"]["self_test"]
    told = f"planted copies found {test['detected']['share']:.0%}" if test["passed"] else "privacy not measured"
    return watch.finish(counts, ran, f"{len(rows)} images, {told}", remarks=result["warnings"])


def read_audit(artifact: Artifact) -> dict[str, Any]:
    """The audit's result."""
    return json.loads((artifact.path / RESULT).read_text("utf-8"))  # type: ignore[no-any-return]


def privacy(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a card may say of copies; None unless the detector has passed its self-test."""
    copies = result["copies"]
    if not copies["self_test"]["passed"]:
        return None
    return {
        "images looked at": copies["images"],
        "copies of training images among them": copies["flagged"],
        "planted copies found": copies["self_test"]["detected"]["share"],
        "false alarms on real images": copies["self_test"]["false_alarms"]["share"],
    }


def _sampled(table: pa.Table) -> list[dict[str, Any]]:
    """At most so many rows of each group, spread evenly over its units."""
    groups: dict[tuple[str, str], list[int]] = {}
    pairs = zip(table["label"].to_pylist(), table["attribute"].to_pylist(), strict=True)
    for place, pair in enumerate(pairs):
        groups.setdefault(pair, []).append(place)
    places = sorted(place for members in groups.values() for place in _spread(members, PER_GROUP))
    return table.take(pa.array(places, pa.int64())).to_pylist()  # type: ignore[no-any-return]


def _spread(members: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly spaced."""
    return [members[i * len(members) // most] for i in range(most)] if len(members) > most else list(members)


def _embeddings(artifact: Artifact, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """CLIP vectors of the images, in the rows' order."""
    known: dict[str, NDArray[np.float32]] = {}
    for unit in dict.fromkeys(row["unit"] for row in rows):
        table = pq.read_table(artifact.units()[unit] / "images.parquet", columns=["image_id", "embedding"])
        known |= dict(zip(table["image_id"].to_pylist(), matrix(table, "embedding"), strict=True))
    return np.stack([known[row["image_id"]] for row in rows])


class _Seen(NamedTuple):
    """Real images: those that were learnt from, those that taught the probe, and those held out."""

    train: RealImages
    known: RealImages
    held_out: RealImages


def _seen(context: Context) -> _Seen:
    validation = real_images(context, VALIDATION)
    split = halves(validation.ids, validation.groups)
    return _Seen(real_images(context, TRAIN), validation.take(split.probe), validation.take(split.held_out))


def _test_detector(context: Context, artifact: Artifact, seen: _Seen) -> Ran:
    """One unit: the self-test of the detector of copies, and the prompts as CLIP sees them."""
    config, train = context.config, judging.sample(seen.train, TRAINING)
    images = TestImages(
        train.embeddings_ND,
        train.thumbnails_N,
        _pixels(context, train.ids[:: max(1, len(train) // PLANTED)][:PLANTED]),
        _pixels(context, judging.sample(seen.held_out, HELD_OUT).ids),
    )
    labels, attributes = context.group_names
    texts = {
        g: fill(config.synthesize.prompt, config.data, g) for g in (Group(y, a) for y in labels for a in attributes)
    }
    make = partial(TestDetector, config.models, images, texts, config.seed)
    if config.models.diffusion == DEMO:
        # The demo's CLIP is small: to start a worker takes longer than the work.
        before = len(artifact.units().done())
        run_local(artifact.units(), [UNIT], make)
        return Ran(1 - before, before, 0.0)
    return run_units(context.session, "audit", artifact.units(), [UNIT], make)


def _pixels(context: Context, ids: Sequence[str]) -> NDArray[np.uint8]:
    """Real images as the models see them, uint8 (N, S, S, 3)."""
    size, rules = context.config.models.image_size, context.config.data.images
    wanted = set(ids)
    rows = [row for row in context.ingested.rows() if row["image_id"] in wanted]
    found = [
        decode(same_content(context.images, row), size, rules) for row in sorted(rows, key=lambda r: str(r["path"]))
    ]
    return np.stack(found) if found else np.zeros((0, size, size, 3), np.uint8)


def _figures(
    context: Context,
    rows: Sequence[Mapping[str, Any]],
    embeddings_ND: NDArray[np.float32],
    seen: _Seen,
    artifact: Artifact,
) -> dict[str, Any]:
    """Everything but the copies."""
    seed, (train, known, held_out) = context.config.seed, seen
    probe = fit_probe(
        np.concatenate([train.embeddings_ND, known.embeddings_ND]),
        [*train.groups, *known.groups],
        [*train.ids, *known.ids],
    )
    synthetic = Images(
        embeddings_ND,
        [Group(row["label"], row["attribute"]) for row in rows],
        probe.groups_of(embeddings_ND),
        [Group(row["zero_shot_label"], row["zero_shot_attribute"]) for row in rows],
    )
    vectors_ND = held_out.embeddings_ND
    real = Images(vectors_ND, held_out.groups, probe.groups_of(vectors_ND), _zero_shot(artifact, vectors_ND))
    jobs = {job.name: job for job in planned_jobs(context)}
    place = {image: i for i, image in enumerate(train.ids)}
    learnt = {name: train.embeddings_ND[[place[i] for i in job.image_ids]] for name, job in jobs.items()}
    figures = []
    for group in sorted(set(synthetic.groups)):
        used = sorted({rows[i]["adapter"] for i in synthetic.of(group)} & learnt.keys())
        trained = np.concatenate([learnt[name] for name in used]) if used else train.embeddings_ND[:0]
        others = known.embeddings_ND[[i for i, own in enumerate(known.groups) if own == group]]
        lender = jobs[used[0]].group if used else group
        figures.append(stage.group_figures(group, synthetic, real, others, trained, lender, seed))
    return {
        "groups": figures,
        "clusters": stage.cluster_figures(rows, synthetic, learnt),
        "shortcuts": stage.shortcuts(synthetic, rows, real, seed),
    }


def _zero_shot(artifact: Artifact, embeddings_ND: NDArray[np.float32]) -> list[Group]:
    """The group whose prompt is most like each image."""
    table = pq.read_table(artifact.units()[UNIT] / "texts.parquet")
    groups = [Group(y, a) for y, a in zip(table["label"].to_pylist(), table["attribute"].to_pylist(), strict=True)]
    return [groups[i] for i in (embeddings_ND @ matrix(table, "embedding").T).argmax(1)]


def _copies(
    context: Context,
    artifact: Artifact,
    rows: Sequence[Mapping[str, Any]],
    embeddings_ND: NDArray[np.float32],
    training: RealImages,
) -> dict[str, Any]:
    """Copies of any training image among the accepted ones, and how far the detector can be trusted."""
    test = json.loads(pq.read_table(artifact.units()[UNIT] / "test.parquet")["json"][0].as_py())
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((row["label"], row["attribute"]), []).append(i)
    places = sorted(i for members in groups.values() for i in _spread(members, COPIES_PER_GROUP))
    train = judging.sample(training, TRAINING)
    result = {"self_test": test, "images": len(places), "training": len(train), "training_images": len(training)}
    if "threshold" not in test or not places:
        return result | {"flagged": None, "nearest": []}
    files = read_files(context.artifacts["synthesize"], [dict(rows[i]) for i in places])
    size = context.config.models.image_size
    pixels = np.stack([decode(files[rows[i]["image_id"]], size, ANY_IMAGE) for i in places])
    found, nearest = CopyDetector(train.embeddings_ND, train.thumbnails_N).score(
        embeddings_ND[places], thumbnails(pixels)
    )
    flagged = found > test["threshold"]
    top = np.argsort(-found, kind="stable")[:NEAREST].tolist()
    return result | {
        "flagged": int(flagged.sum()),
        "nearest": [
            {
                "image_id": rows[places[i]]["image_id"],
                "training_image": train.ids[nearest[i]],
                "score": float(found[i]),
            }
            for i in top
        ],
    }
