"""The checks that must hold: each is computed anew from the finished stages' files, not from what the stages said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.escaping import enumerated
from fairsynth.manifest import TEST, Manifest
from fairsynth.stages.cluster.output import CLUSTERS
from fairsynth.stages.embed.output import embedding_files
from fairsynth.stages.report.files import unreadable
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.synthesize.output import ACCEPTED, TABLE, group_records

_SET_ASIDE = {"ingest": ("quarantined", "excluded"), "embed": ("quarantined",)}
_FILES = {"quarantined": "quarantine.parquet", "excluded": "excluded.parquet"}
_MOST_LISTED = 3
DETECTOR = "copy_detector"


def checks(inputs: Inputs, predictions: pa.Table) -> list[dict[str, Any]]:
    """A check each: ``key``, ``name``, ``passed`` (None: there is nothing to check), and ``detail``, what was looked at or found.

    ``predictions``: all of evaluate's.
    """
    columns = ["image_id", "label", "attribute", "prompt", "seed", "adapter", "route", "copy_of", "verdict"]
    made = pq.read_table(inputs.artifacts["synthesize"].path / TABLE, columns=columns)
    found = {
        "counts": _counts(inputs, made),
        "quotas": _quotas(inputs, made),
        "ids": _ids(inputs.ingested, made),
        "test_images": _test_images(inputs, made),
        "origin": _rows(made),
        DETECTOR: _detector(inputs),
        "predictions": _predictions(inputs, predictions),
        "files": _files(inputs, made),
    }
    return [{"key": key} | check for key, check in found.items()]


def _check(name: str, problems: Iterable[str], looked_at: str, applies: bool = True) -> dict[str, Any]:
    found = [*problems]
    told = enumerated(found, "; ", _MOST_LISTED) if found else looked_at
    return {"name": name, "passed": not found if applies else None, "detail": told}


def _counts(inputs: Inputs, made: pa.Table) -> dict[str, Any]:
    """Input = used + quarantined + left out, in each stage's record and against the rows that the stage wrote."""
    problems = []
    for name, artifact in inputs.artifacts.items():
        counts = artifact.record["counts"]
        if counts["input"] != counts["used"] + counts["quarantined"] + counts["excluded"]:
            problems.append(f"{name}: {counts}")
        for kind in _SET_ASIDE.get(name, ()):
            rows = pq.read_metadata(artifact.path / _FILES[kind]).num_rows
            problems += [f"{name}: {counts[kind]} {kind}, but {rows} are listed"] if rows != counts[kind] else []
    used = {"ingest": len(inputs.ingested), "synthesize": _accepted(made).num_rows}
    for name, rows in used.items():
        told = inputs.artifacts[name].record["counts"]["used"]
        problems += [f"{name}: {told} used, but {rows} rows"] if told != rows else []
    looked_at = f"{len(inputs.artifacts)} stages: every image is used, quarantined or left out"
    return _check("No image is lost between stages", problems, looked_at)


def _quotas(inputs: Inputs, made: pa.Table) -> dict[str, Any]:
    """Every group has the synthetic images that were wanted of it, or the stage has told that it lacks some, and why."""
    synthesized, accepted = inputs.artifacts["synthesize"], _accepted(made)
    rows = Counter(zip(accepted["label"].to_pylist(), accepted["attribute"].to_pylist(), strict=True))
    problems, told, wanted = list[str](), list[str](), 0
    for record in group_records(synthesized):
        there, wanted = rows[record.group], wanted + bool(record.quota)
        if there != record.accepted:
            problems.append(f"{record.group}: {record.accepted} accepted, but {there} rows")
        elif there < record.quota:
            # The stage's summary is what a terminal showed.
            word, why = ("NOT MADE", record.why) if record.not_made else ("SHORTFALL", "lacks some")
            tells = why and (word in synthesized.record["summary"] or record.not_made == "absent")
            (told if tells else problems).append(f"{record.group} has {there} of {record.quota}")
    looked_at = "; ".join([f"{wanted - len(told)} of {wanted} groups have all their images", *told[:_MOST_LISTED]])
    looked_at += f"; and {len(told) - _MOST_LISTED} more lack some" if len(told) > _MOST_LISTED else ""
    return _check(
        "Every group has its synthetic images, or it was told that it lacks some", problems, looked_at, wanted > 0
    )


def _ids(real: Manifest, made: pa.Table) -> dict[str, Any]:
    ids = pa.concat_arrays([real.table["image_id"].combine_chunks(), made["image_id"].combine_chunks()])
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    looked_at = f"{len(real)} real and {made.num_rows} synthetic images"
    return _check("No image id is there twice", (f"{image} is there twice" for image in twice), looked_at)


def _test_images(inputs: Inputs, made: pa.Table) -> dict[str, Any]:
    """By id and by the bytes of the file: no test image among those that anything learnt from or was chosen by."""
    is_test = pc.equal(inputs.ingested.table["split"], TEST)
    test, rest = inputs.ingested.table.filter(is_test), inputs.ingested.table.filter(pc.invert(is_test))
    embedded = pq.read_table(embedding_files(inputs.artifacts["embed"]), columns=["image_id"])["image_id"]
    clustered = pq.read_table(inputs.artifacts["cluster"].path / CLUSTERS, columns=["image_id"])["image_id"]
    places = {
        "among embedded images": _common(embedded, test["image_id"]),
        "in clusters, from which adapters learn": _common(clustered, test["image_id"]),
        "beside synthetic images, as their nearest training image": _common(made["copy_of"], test["image_id"]),
        "with the bytes of a training or validation image": _common(rest["sha256"], test["sha256"]),
    }
    problems = (f"{n} {place}" for place, n in places.items() if n)
    looked_at = f"{test.num_rows} test images against {rest.num_rows} others, {len(embedded)} vectors, {len(clustered)} images in clusters"
    return _check("No test image was used before the test", problems, looked_at, test.num_rows > 0)


def _common(values: pa.ChunkedArray, among: pa.ChunkedArray) -> int:
    kept = values.drop_null()
    return int(pc.sum(pc.is_in(kept, value_set=among.combine_chunks())).as_py() or 0)


def _rows(made: pa.Table) -> dict[str, Any]:
    """A prompt, a seed and an adapter; images that a prompt alone made have no adapter."""
    by_prompt = pc.equal(made["route"], "prompt")
    lacks = {
        "prompt": pc.equal(pc.fill_null(made["prompt"], ""), ""),
        "seed": pc.is_null(made["seed"]),
        "adapter": pc.and_(pc.invert(by_prompt), pc.equal(pc.fill_null(made["adapter"], ""), "")),
    }
    counts = {what: int(pc.sum(lacking).as_py() or 0) for what, lacking in lacks.items()}
    problems = (f"{n} without {what}" for what, n in counts.items() if n)
    alone = int(pc.sum(by_prompt).as_py() or 0)
    looked_at = f"{made.num_rows} images" + (f", {alone} of them by prompts alone, without an adapter" if alone else "")
    name = "Every synthetic image has its prompt, seed and adapter"
    return _check(name, problems, looked_at if made.num_rows else "there are no synthetic images", made.num_rows > 0)


def _detector(inputs: Inputs) -> dict[str, Any]:
    from fairsynth.stages.audit.output import read_audit

    copies = read_audit(inputs.artifacts["audit"])["copies"]
    test, name = copies["self_test"], "The detector of copies passed its self-test"
    if not copies["images"]:
        return _check(name, [], "there are no synthetic images", False)
    why = test.get("why") or "it did not find enough planted copies, or took real images for copies"
    found = (
        f"it found {test['detected']['share']:.1%} of {test['detected']['n']} planted copies" if test["passed"] else ""
    )
    return _check(name, [] if test["passed"] else [f"copies are not measured: {why}"], found)


def _predictions(inputs: Inputs, predictions: pa.Table) -> dict[str, Any]:
    """Each method has, from each of its seeds, one prediction for every test image; they are the largest probability's."""
    columns = (predictions[name].to_pylist() for name in ("method", "seed", "image_id"))
    runs: dict[tuple[str, int], list[str]] = {}
    for method, seed, image in zip(*columns, strict=True):
        runs.setdefault((method, seed), []).append(image)
    test = sorted(i for i, s in zip(*map(inputs.manifest.column, ("image_id", "split")), strict=True) if s == TEST)
    wanted, seeds = set(inputs.config.tune.methods), inputs.config.evaluate.seeds
    per_method = Counter(method for method, _ in runs)
    problems = [
        f"{method} has {per_method[method]} of {seeds} seeds" for method in wanted if per_method[method] != seeds
    ]
    problems += [
        f"{method}, seed {seed}: not each test image once"
        for (method, seed), ids in runs.items()
        if sorted(ids) != test
    ]
    problems += _not_largest(predictions, inputs.group_names[0])
    looked_at = f"{len(per_method)} methods, {seeds} seeds each, {len(test)} test images"
    return _check("Every method predicted every test image from every seed", problems, looked_at)


def _not_largest(predictions: pa.Table, labels: list[str]) -> list[str]:
    import numpy as np

    probabilities_NK = np.array(predictions["probabilities"].to_pylist(), np.float64)
    places = pc.index_in(predictions["predicted"], pa.array(labels, pa.string())).to_numpy().astype(np.int64)
    given = probabilities_NK[np.arange(len(places)), places]
    wrong = int((given < probabilities_NK.max(1) - 1e-6).sum())
    return [f"{wrong} predictions are not those of the largest probability"] if wrong else []


def _files(inputs: Inputs, made: pa.Table) -> dict[str, Any]:
    problems, opened = unreadable(inputs, _accepted(made)["image_id"].to_pylist())
    return _check("The files of the results open", problems, opened)


def _accepted(made: pa.Table) -> pa.Table:
    return made.filter(pc.equal(made["verdict"], ACCEPTED))
