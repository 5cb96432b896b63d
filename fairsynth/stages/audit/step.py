"""Step audit: the accepted images measured, beside real images that nothing learnt from. Changes no verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact, Counts, write_json
from fairsynth.config import ANY_IMAGE
from fairsynth.data.copies import CopyDetector, thumbnails
from fairsynth.data.decode import decode
from fairsynth.data.vectors import matrix
from fairsynth.engine.units import Ran, run_local, run_units
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, VALIDATION
from fairsynth.models.probe import Probe, fit_probe, halves
from fairsynth.models.sources import DEMO
from fairsynth.stages.audit import figures as stage
from fairsynth.stages.audit.copy_audit import ReadImages, TestDetector, TestImages
from fairsynth.stages.audit.figures import Images
from fairsynth.stages.context import Context, Done, Stopwatch, found
from fairsynth.stages.embed.output import RealImages, real_images
from fairsynth.stages.finetune.step import planned_jobs
from fairsynth.stages.synthesize import judgement as judging
from fairsynth.stages.synthesize import selection
from fairsynth.stages.synthesize.output import TABLE, read_files, spread
from fairsynth.stages.synthesize.selection import ACCEPTED
from fairsynth.stages.synthesize.view import show_audit

RESULT, UNIT = "audit.json", "self-test"
# Most images of a group that are looked at, and most that are compared with (so many) training images one by one.
PER_GROUP, COPIES_PER_GROUP, TRAINING = 2000, 300, 4000
# Training images that are planted, in every kind of disguise; held-out images that must not be taken for copies.
PLANTED, HELD_OUT = 60, 400
NEAREST = 20
COLUMNS = [
    *("image_id", "label", "attribute", "route", "adapter", "second_adapter", "cluster", "unit"),
    *("zero_shot_label", "zero_shot_attribute", "verdict"),
]


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
    table = pq.read_table(synthesized.path / TABLE, columns=COLUMNS)
    rows, seen = _sampled(table), _seen(context)
    reference = _reference(context, seen)
    ran = _test_detector(context, artifact, seen, reference)
    embeddings = _embeddings(synthesized, rows, seen.train.embeddings_ND.shape[1])
    result = _figures(context, rows, embeddings, seen, artifact)
    result["copies"] = _copies(context, artifact, rows, embeddings, reference, len(seen.train))
    result["warnings"] = stage.warnings(result)
    write_json(folder / RESULT, result)
    show_audit(context, synthesized, privacy(result))
    looked_at = sum(row["verdict"] == ACCEPTED for row in rows)
    accepted = pc.sum(pc.equal(table["verdict"], ACCEPTED)).as_py() or 0
    test = result["copies"]["self_test"]
    told = f"planted copies found {test['detected']['share']:.0%}" if test["passed"] else "privacy not measured"
    counts = Counts(accepted, looked_at, 0, accepted - looked_at)
    return watch.finish(counts, ran, f"{looked_at} accepted images, {told}", remarks=result["warnings"])


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
        "compared with": f"{copies['training']} of {copies['training_images']} training images",
        "copies of training images among them": copies["flagged"],
        "planted copies found": copies["self_test"]["detected"]["share"],
        "false alarms on real images": copies["self_test"]["false_alarms"]["share"],
    }


def _sampled(table: pa.Table) -> list[dict[str, Any]]:
    """Of each group at most so many accepted rows and so many others as were made beside them, spread evenly."""
    kept = pc.equal(table["verdict"], ACCEPTED).to_numpy()
    places: list[int] = []
    for members in selection.members(table).values():
        good, bad = members[kept[members]].tolist(), members[~kept[members]].tolist()
        accepted = spread(good, PER_GROUP)
        # As many rejected ones as there were for each accepted one: together they stand for all that were made.
        places += [*accepted, *spread(bad, round(len(bad) * len(accepted) / len(good)) if good else PER_GROUP)]
    return table.take(pa.array(sorted(places), pa.int64())).to_pylist()  # type: ignore[no-any-return]


def _embeddings(artifact: Artifact, rows: Sequence[Mapping[str, Any]], width: int) -> NDArray[np.float32]:
    """CLIP vectors of the images, in the rows' order."""
    known: dict[str, NDArray[np.float32]] = {}
    for unit in dict.fromkeys(row["unit"] for row in rows):
        table = pq.read_table(artifact.units()[unit] / "images.parquet", columns=["image_id", "embedding"])
        known |= dict(zip(table["image_id"].to_pylist(), matrix(table, "embedding"), strict=True))
    return np.stack([known[row["image_id"]] for row in rows]) if rows else np.zeros((0, width), np.float32)


class _Seen(NamedTuple):
    """Real images: those that were learnt from, those that taught the probe, and those held out."""

    train: RealImages
    known: RealImages
    held_out: RealImages


def _seen(context: Context) -> _Seen:
    validation = real_images(context, VALIDATION)
    split = halves(validation.ids, validation.groups)
    return _Seen(real_images(context, TRAIN), validation.take(split.probe), validation.take(split.held_out))


def _reference(context: Context, seen: _Seen) -> RealImages:
    """Training images that copies are looked for of: what adapters learnt comes first, then a sample of the rest."""
    learnt = {image for job in planned_jobs(context) for image in job.image_ids}
    parts = [[i for i, image in enumerate(seen.train.ids) if (image in learnt) == first] for first in (True, False)]
    own = judging.sample(parts[0], TRAINING)
    return seen.train.take([*own, *judging.sample(parts[1], TRAINING - len(own))])


def _test_detector(context: Context, artifact: Artifact, seen: _Seen, reference: RealImages) -> Ran:
    """One unit: the self-test of the detector of copies, and the prompts as CLIP sees them."""
    config = context.config
    images = TestImages(
        reference.embeddings_ND,
        reference.thumbnails_N,
        _reader(context, judging.sample(reference.ids, PLANTED)),
        _reader(context, judging.sample(seen.held_out.ids, HELD_OUT)),
    )
    make = partial(TestDetector, config.models, images, judging.group_texts(context), config.seed)
    if config.models.clip == DEMO:
        # The demo's CLIP is small: to start a worker takes longer than the work.
        before = len(artifact.units().done())
        run_local(artifact.units(), [UNIT], make)
        return Ran(1 - before, before, 0.0)
    return run_units(context.session, "audit", artifact.units(), [UNIT], make)


def _reader(context: Context, ids: Sequence[str]) -> ReadImages:
    """Real images as the models see them, to be read where they are needed."""
    wanted, config = set(ids), context.config
    rows = [row for row in context.ingested.rows() if row["image_id"] in wanted]
    places = sorted((str(row["path"]), str(row["location"])) for row in rows)
    return ReadImages(context.storage, places, config.models.image_size, config.data.images)


def _figures(
    context: Context,
    rows: Sequence[Mapping[str, Any]],
    embeddings_ND: NDArray[np.float32],
    seen: _Seen,
    artifact: Artifact,
) -> dict[str, Any]:
    """Everything but the copies."""
    seed, (train, known, held_out) = context.config.seed, seen
    other = _other_probe(seen)
    made = _images(rows, embeddings_ND, other)
    kept = [i for i, row in enumerate(rows) if row["verdict"] == ACCEPTED]
    accepted = [rows[i] for i in kept]
    synthetic = _images(accepted, embeddings_ND[kept], other)
    vectors_ND = held_out.embeddings_ND
    # The filter's probe has not seen these.
    by_probe = judging.filter_probe(train, known).groups_of(vectors_ND)
    real = Images(vectors_ND, held_out.groups, by_probe, _zero_shot(artifact, vectors_ND))
    jobs = {job.name: job for job in planned_jobs(context)}
    place = {image: i for i, image in enumerate(train.ids)}
    learnt = {name: train.embeddings_ND[[place[i] for i in job.image_ids]] for name, job in jobs.items()}
    figures = []
    for group in sorted(set(made.groups)):
        mine = [accepted[i] for i in synthetic.of(group)]
        used = sorted({row[name] for row in mine for name in ("adapter", "second_adapter")} & learnt.keys())
        trained = np.concatenate([learnt[name] for name in used]) if used else train.embeddings_ND[:0]
        lender = jobs[used[0]].group if used else group
        others, others_of_lender = (_of(known, one) for one in (group, lender))
        figures.append(
            stage.group_figures(group, made, synthetic, real, others, trained, lender, others_of_lender, seed)
        )
    return {
        "groups": figures,
        "clusters": stage.cluster_figures(
            accepted, synthetic, learnt, real, {group: _of(known, group) for group in set(synthetic.groups)}, seed
        ),
        "shortcuts": stage.shortcuts(synthetic, accepted, real, seed),
    }


def _other_probe(seen: _Seen) -> Probe:
    """A probe that the filter did not choose by: what was accepted is right by the filter's own word."""
    one = seen.held_out if len(set(seen.held_out.groups)) > 1 else seen.train
    return fit_probe(one.embeddings_ND, one.groups, one.ids)


def _images(rows: Sequence[Mapping[str, Any]], embeddings_ND: NDArray[np.float32], probe: Probe) -> Images:
    """Synthetic images, and what is seen in them."""
    told = all(row["zero_shot_attribute"] is not None for row in rows)
    return Images(
        embeddings_ND,
        [Group(row["label"], row["attribute"]) for row in rows],
        probe.groups_of(embeddings_ND) if len(rows) else [],
        [Group(row["zero_shot_label"], row["zero_shot_attribute"]) for row in rows] if told else None,
    )


def _of(images: RealImages, group: Group) -> NDArray[np.float32]:
    """Embeddings of one group's images."""
    return images.embeddings_ND[[i for i, own in enumerate(images.groups) if own == group]]


def _zero_shot(artifact: Artifact, embeddings_ND: NDArray[np.float32]) -> list[Group] | None:
    """The group whose prompt is most like each image; None where groups share a prompt."""
    table = pq.read_table(artifact.units()[UNIT] / "texts.parquet")
    if len(np.unique(matrix(table, "embedding"), axis=0)) < table.num_rows:
        return None
    groups = [Group(y, a) for y, a in zip(table["label"].to_pylist(), table["attribute"].to_pylist(), strict=True)]
    return [groups[i] for i in (embeddings_ND @ matrix(table, "embedding").T).argmax(1)]


def _copies(
    context: Context,
    artifact: Artifact,
    rows: Sequence[Mapping[str, Any]],
    embeddings_ND: NDArray[np.float32],
    train: RealImages,
    training_images: int,
) -> dict[str, Any]:
    """Copies of training images among the accepted ones, and how far the detector can be trusted."""
    test = json.loads(pq.read_table(artifact.units()[UNIT] / "test.parquet")["json"][0].as_py())
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        if row["verdict"] == ACCEPTED:
            groups.setdefault((row["label"], row["attribute"]), []).append(i)
    places = sorted(i for members in groups.values() for i in spread(members, COPIES_PER_GROUP))
    result = {"self_test": test, "images": len(places), "training": len(train), "training_images": training_images}
    if "threshold" not in test or not places:
        return result | {"flagged": None, "nearest": []}
    files = read_files(context.artifacts["synthesize"], [dict(rows[i]) for i in places])
    size = context.config.models.image_size
    pixels = np.stack([decode(files[rows[i]["image_id"]], size, ANY_IMAGE) for i in places])
    detector = CopyDetector(train.embeddings_ND, train.thumbnails_N)
    scores, nearest = detector.score(embeddings_ND[places], thumbnails(pixels))
    pairs = [
        {"image_id": rows[places[i]]["image_id"], "training_image": train.ids[nearest[i]], "score": float(scores[i])}
        for i in np.argsort(-scores, kind="stable")[:NEAREST].tolist()
    ]
    return result | {"flagged": int((scores > test["threshold"]).sum()), "nearest": pairs}
