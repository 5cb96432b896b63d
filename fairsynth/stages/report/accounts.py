"""How many images each stage had to take in and to use, counted in the files of the stages before it and in its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact
from fairsynth.manifest import TEST, TRAIN, VALIDATION, Manifest
from fairsynth.stages.audit.output import PER_GROUP
from fairsynth.stages.cluster.output import CLUSTERS
from fairsynth.stages.embed.output import embedding_files
from fairsynth.stages.finetune.output import adapter_facts
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.synthesize.output import ACCEPTED

_SET_ASIDE = {"ingest": ("quarantined", "excluded"), "embed": ("quarantined",), "evaluate": ("quarantined",)}
_FILES = {"quarantined": "quarantine.parquet", "excluded": "excluded.parquet"}


def lost(inputs: Inputs, made: pa.Table) -> Iterator[str]:
    """Where a stage's record does not add up, or differs from the files; a line each. ``made``: all synthetic images."""
    counted = _counted(inputs, made)
    for name, artifact in inputs.artifacts.items():
        counts = artifact.record["counts"]
        if counts["input"] != counts["used"] + counts["quarantined"] + counts["excluded"]:
            yield f"{name}: {counts}"
        for what, n in (counted.get(name, {}) | _listed(name, artifact)).items():
            if counts[what] != n:
                yield f"{name}: {counts[what]} {what}, but {n} in the files"
    for split in (TRAIN, VALIDATION):
        packed, n = _packed(inputs.artifacts["tune"], split), len(inputs.manifest.split(split))
        if packed not in (None, n):
            yield f"tune: {packed} images of {split} packed for the classifiers, but {n} in the files"


def _counted(inputs: Inputs, made: pa.Table) -> dict[str, dict[str, int]]:
    """By stage: what came in and what was used, as far as files tell it.

    embed leaves out test images and copies of others; clusters are of the training images with vectors; the audit looks
    at most at ``PER_GROUP`` of each group's images.
    """
    real, known = inputs.ingested.table, inputs.manifest
    vectors = pq.read_table(embedding_files(inputs.artifacts["embed"]), columns=["image_id"])["image_id"]
    train = known.split(TRAIN).table["image_id"].combine_chunks()
    clustered = pq.read_metadata(inputs.artifacts["cluster"].path / CLUSTERS).num_rows
    taught = sum(facts["images"] for facts in adapter_facts(inputs.artifacts["finetune"]) if not facts["failed"])
    good = made.filter(pc.equal(made["verdict"], ACCEPTED))
    groups = Counter(zip(good["label"].to_pylist(), good["attribute"].to_pylist(), strict=True))
    not_embedded = _true(pc.equal(real["split"], TEST))
    if "duplicate_of" in real.column_names:
        copies = pc.not_equal(pc.fill_null(real["duplicate_of"], ""), "")
        not_embedded = _true(pc.or_(pc.equal(real["split"], TEST), copies))
    return {
        "ingest": {"used": len(real)},
        "embed": {"input": len(real), "used": len(vectors), "excluded": not_embedded},
        "cluster": {"input": _true(pc.is_in(vectors, value_set=train)), "used": clustered},
        "finetune": {"input": clustered, "used": taught},
        "synthesize": {"input": made.num_rows, "used": good.num_rows},
        "audit": {"input": good.num_rows, "used": sum(min(n, PER_GROUP) for n in groups.values())},
        "tune": {"input": len(known), "used": len(known.split(TRAIN)) + len(known.split(VALIDATION))},
        "evaluate": {"input": len(known), "used": len(tested(inputs))},
    }


def _listed(name: str, artifact: Artifact) -> dict[str, int]:
    """How many images the stage's own lists set aside."""
    return {kind: _rows_of(artifact, kind) for kind in _SET_ASIDE.get(name, ())}


def _rows_of(artifact: Artifact, kind: str) -> int:
    file = artifact.path / _FILES[kind]
    return pq.read_metadata(file).num_rows if artifact.identity.stage != "evaluate" or file.exists() else 0


def tested(inputs: Inputs) -> Manifest:
    """The test images that have to be predicted: all, but for those that evaluate could not embed.

    It embeds test images, and so has a list of those set aside, only where attributes are discovered.
    """
    test, file = inputs.manifest.split(TEST), inputs.artifacts["evaluate"].path / _FILES["quarantined"]
    bad = {*pq.read_table(file, columns=["path"])["path"].to_pylist()} if file.exists() else set()
    return test.filter(path not in bad for path in test.column("path"))


def _packed(tuned: Artifact, split: str) -> int | None:
    """The rows of a split's pack, from which classifiers learnt; None where it is no longer there."""
    # The name as in classify.packs, which is not imported here: it brings torch.
    units, name = tuned.units(), f"pack-{split}"
    return len(np.load(units[name] / "labels.npy", mmap_mode="r", allow_pickle=False)) if units.has(name) else None


def _true(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)
