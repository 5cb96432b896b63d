"""The checks that must hold: each is computed anew from the finished stages' files, not from what the stages said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.errors import DamagedError
from fairsynth.escaping import enumerated, printable, shortened
from fairsynth.manifest import TEST, Manifest
from fairsynth.stages.cluster.output import CLUSTERS
from fairsynth.stages.embed.output import embedding_files
from fairsynth.stages.report.accounts import lost, tested
from fairsynth.stages.report.files import unreadable
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.synthesize.output import ACCEPTED, TABLE, group_records

_MOST_LISTED = 3
# Problems, what was looked at if there are none, and whether there is something to check.
_Found = tuple[Iterable[str], str, bool]
DETECTOR = "copy_detector"


def checks(inputs: Inputs, predictions: pa.Table) -> list[dict[str, Any]]:
    """A check each: ``key``, ``name``, ``passed`` (None: there is nothing to check), and ``detail``, what was looked at or found.

    ``predictions``: all of evaluate's.
    """
    columns = ["image_id", "label", "attribute", "prompt", "seed", "adapter", "route", "copy_of", "verdict"]
    made = pq.read_table(inputs.artifacts["synthesize"].path / TABLE, columns=columns)
    to_check: dict[str, tuple[str, Callable[[], _Found]]] = {
        "counts": ("No image is lost between stages", lambda: _counts(inputs, made)),
        "quotas": ("Every group has its synthetic images, or it was told that it lacks some", lambda: _quotas(inputs, made)),
        "ids": ("No image id is there twice", lambda: _ids(inputs.ingested, made)),
        "test_images": (
            "No test image was embedded or clustered, and none is a copy of another image",
            lambda: _test_images(inputs, made),
        ),
        "origin": ("Every synthetic image has its prompt, seed and adapter", lambda: _rows(made)),
        DETECTOR: ("The detector of copies passed its self-test", lambda: _detector(inputs)),
        "predictions": (
            "Every method predicted every test image from every seed",
            lambda: _predictions(inputs, predictions),
        ),
        "files": ("The files of the results open", lambda: _files(inputs, made)),
    }  # fmt: skip
    return [{"key": key, "name": name} | _checked(check) for key, (name, check) in to_check.items()]


def _checked(check: Callable[[], _Found]) -> dict[str, Any]:
    """What a check found. One that cannot be made has failed, and does not end the report."""
    try:
        found, looked_at, applies = check()
        problems = [*found]
    except DamagedError:
        raise  # it is made anew, and then checked
    except Exception as error:  # whatever is wrong with the files
        why = printable(f"{type(error).__name__}: {error}")
        return {"passed": False, "detail": shortened(f"could not be checked ({why})")}
    told = enumerated(problems, "; ", _MOST_LISTED) if problems else looked_at
    return {"passed": not problems if applies else None, "detail": told}


def _counts(inputs: Inputs, made: pa.Table) -> _Found:
    """Input = used + quarantined + left out in each stage's record, and each as counted in the files."""
    return lost(inputs, made), f"{len(inputs.artifacts)} stages: every image is used, quarantined or left out", True


def _quotas(inputs: Inputs, made: pa.Table) -> _Found:
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
    return problems, looked_at, wanted > 0


def _ids(real: Manifest, made: pa.Table) -> _Found:
    ids = pa.concat_arrays([real.table["image_id"].combine_chunks(), made["image_id"].combine_chunks()])
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    looked_at = f"{len(real)} real and {made.num_rows} synthetic images"
    return [f"{image} is there twice" for image in twice], looked_at, True


def _test_images(inputs: Inputs, made: pa.Table) -> _Found:
    """By id: no test image among vectors, clusters and the images that copies were searched in; by bytes: none in another split.

    What classifiers learnt from is not looked at: their packs hold pixels without ids.
    """
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
    problems = [f"{n} {place}" for place, n in places.items() if n]
    looked_at = f"{test.num_rows} test images against {rest.num_rows} others, {len(embedded)} vectors, {len(clustered)} images in clusters"
    return problems, looked_at, test.num_rows > 0


def _common(values: pa.ChunkedArray, among: pa.ChunkedArray) -> int:
    kept = values.drop_null()
    return int(pc.sum(pc.is_in(kept, value_set=among.combine_chunks())).as_py() or 0)


def _rows(made: pa.Table) -> _Found:
    """A prompt, a seed and an adapter; images that a prompt alone made have no adapter."""
    by_prompt = pc.equal(made["route"], "prompt")
    lacks = {
        "prompt": pc.equal(pc.fill_null(made["prompt"], ""), ""),
        "seed": pc.is_null(made["seed"]),
        "adapter": pc.and_(pc.invert(by_prompt), pc.equal(pc.fill_null(made["adapter"], ""), "")),
    }
    counts = {what: int(pc.sum(lacking).as_py() or 0) for what, lacking in lacks.items()}
    problems = [f"{n} without {what}" for what, n in counts.items() if n]
    alone = int(pc.sum(by_prompt).as_py() or 0)
    looked_at = f"{made.num_rows} images" + (f", {alone} of them by prompts alone, without an adapter" if alone else "")
    return problems, looked_at if made.num_rows else "there are no synthetic images", made.num_rows > 0


def _detector(inputs: Inputs) -> _Found:
    from fairsynth.stages.audit.output import read_audit

    copies = read_audit(inputs.artifacts["audit"])["copies"]
    test = copies["self_test"]
    if not copies["images"]:
        return [], "there are no synthetic images", False
    why = test.get("why") or "it did not find enough planted copies, or took real images for copies"
    found = (
        f"it found {test['detected']['share']:.1%} of {test['detected']['n']} planted copies" if test["passed"] else ""
    )
    return [] if test["passed"] else [f"copies are not measured: {why}"], found, True


def _predictions(inputs: Inputs, predictions: pa.Table) -> _Found:
    """Each method has, from each of its seeds, one prediction for every test image; they are the largest probability's."""
    columns = (predictions[name].to_pylist() for name in ("method", "seed", "image_id"))
    runs: dict[tuple[str, int], list[str]] = {}
    for method, seed, image in zip(*columns, strict=True):
        runs.setdefault((method, seed), []).append(image)
    test = sorted(tested(inputs).column("image_id"))
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
    return problems, looked_at, True


def _not_largest(predictions: pa.Table, labels: list[str]) -> list[str]:
    import numpy as np

    probabilities_NK = np.array(predictions["probabilities"].to_pylist(), np.float64)
    # -1: no label of the dataset.
    found = pc.fill_null(pc.index_in(predictions["predicted"], pa.array(labels, pa.string())), -1)
    places = found.to_numpy().astype(np.int64)
    given = probabilities_NK[np.arange(len(places)), places]
    # Not "smaller": a comparison with NaN is never true.
    wrong = int(((places < 0) | ~(given >= probabilities_NK.max(1) - 1e-6)).sum())
    return [f"{wrong} predictions are not those of the largest probability"] if wrong else []


def _files(inputs: Inputs, made: pa.Table) -> _Found:
    problems, opened = unreadable(inputs, _accepted(made)["image_id"].to_pylist())
    return problems, opened, True


def _accepted(made: pa.Table) -> pa.Table:
    return made.filter(pc.equal(made["verdict"], ACCEPTED))
