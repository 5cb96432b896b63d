"""Finished stages as a run leaves them, written directly: for what reads them all, in a second and with any names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.numpy import save_file

from fairsynth.artifacts import Artifact, Identity
from fairsynth.config import RunConfig
from fairsynth.data.location import ImageReader
from fairsynth.data.storage import Storage
from fairsynth.data.vectors import vectors
from fairsynth.groups import Group
from fairsynth.manifest import SET_ASIDE, Manifest
from fairsynth.models.probe import Recognised
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.synthesize.output import ACCEPTED, TABLE, GroupRecord
from tests.support.audits import audit, synthesis
from tests.support.datasets import encoded

WIDTH, COPIES = 16, {"passed": True}
ORDER = ("ingest", "embed", "cluster", "finetune", "synthesize", "audit", "tune", "evaluate")
_TRAIN, _VAL, _TEST = 12, 4, 12


@dataclass(frozen=True)
class World:
    """What the stages are of. ``images``: synthetic images made of a group; ``passed``: the detector's self-test."""

    groups: Sequence[Group]
    methods: Sequence[str] = ("erm", "group-dro", "fairsynth")
    seeds: int = 3
    images: int = 16
    clusters: int = 2
    side: int = 24
    passed: bool = True
    shortfall: int = 0
    discovered: bool = False
    text: str = "text"
    faces: str = "shown"


def finished(root: Path, world: World) -> tuple[Inputs, ImageReader]:
    """The stages of a world, finished below ``root``, and what reads its real images."""
    real = _real(root / "data", world)
    artifacts = {name: Artifact(root, Identity(name, 1, {}, {})) for name in ORDER}
    for artifact in artifacts.values():
        artifact.open()
    tune = {"methods": list(world.methods), "trials": 2}
    data = {"attribute": "discover"} if world.discovered else {}
    config = RunConfig.model_validate(
        {"tune": tune, "evaluate": {"seeds": world.seeds}, "data": data, "report": {"faces": world.faces}}
    )
    made = _synthetic(artifacts["synthesize"], world)
    facts: dict[str, dict[str, Any]] = {
        "ingest": _ingest(artifacts["ingest"], real, world),
        "embed": _embed(artifacts["embed"], real),
        "cluster": _cluster(artifacts["cluster"], real, world),
        "finetune": _finetune(artifacts["finetune"], world),
        "synthesize": _records(made, world),
        "audit": _audit(artifacts["audit"], made, world),
        "tune": _tune(artifacts["tune"], world),
        "evaluate": _evaluate(artifacts["evaluate"], real, world),
    }
    counts = {name: (len(real), 0) for name in ORDER}
    good = sum(row["verdict"] == ACCEPTED for row in made)
    counts["synthesize"], counts["audit"] = (len(made), len(made) - good), (good, 0)
    train, val, test = (len(real.split(split)) for split in ("train", "val", "test"))
    counts |= {"embed": (len(real), test), "cluster": (train, 0), "finetune": (train, 0)}
    counts |= {"tune": (len(real), test), "evaluate": (len(real), train + val)}
    for name, artifact in artifacts.items():
        _finish(artifact, *counts[name], facts[name])
    names = tuple(sorted({getattr(group, part) for group in world.groups}) for part in ("label", "attribute"))
    inputs = Inputs(config, artifacts, real, real, names, f"/data/{world.text}", {"clip": world.text})  # type: ignore[arg-type]
    return inputs, ImageReader(Storage(str(root / "data")))


def _finish(artifact: Artifact, n: int, excluded: int, facts: dict[str, Any]) -> None:
    from fairsynth.artifacts import Counts

    usual = {
        "startup_seconds": 0.5,
        "units": 1,
        "cached": 0,
        "summary": "SHORTFALL, NOT MADE",
        "workers": 2,
        "remarks": [],
    }
    artifact.finish(Counts(n, n - excluded, 0, excluded), 12.5, **(usual | facts))


def _id(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _picture(place: int, world: World) -> bytes:
    # Noise compresses badly: no real photograph makes a larger page.
    noise = np.random.default_rng(place).integers(0, 256, (world.side, world.side, 3), np.uint8)
    return encoded(Image.fromarray(noise))


def _real(folder: Path, world: World) -> Manifest:
    folder.mkdir(parents=True)
    rows = []
    for place, group in enumerate(world.groups):
        for split, n in (("train", _TRAIN), ("val", _VAL), ("test", _TEST)):
            for i in range(n):
                path = f"{split}-{place}-{i}.png"
                content = _picture(1000 * place + i, world) if split == "train" else path.encode()
                if split == "train":
                    (folder / path).write_bytes(content)
                facts = {"sha256": hashlib.sha256(content).hexdigest(), "path": path, "location": "", "source": "real"}
                rows.append({"image_id": _id(path), "split": split} | group._asdict() | facts | {"true_attribute": ""})
    extra = {"location": pa.string(), "true_attribute": pa.string()}
    return Manifest.from_rows(rows, extra).sorted()


def _ingest(artifact: Artifact, real: Manifest, world: World) -> dict[str, Any]:
    real.write(artifact.path / "manifest.parquet")
    for name in ("quarantine", "excluded"):
        pq.write_table(SET_ASIDE.empty_table(), artifact.path / f"{name}.parquet")
    reasons = {"quarantined": {}, "excluded": {}}
    return {"reasons": reasons, "severity": None, "remarks": [world.text]}


def _vectors(ids: Sequence[str]) -> pa.Array:
    chance = np.random.default_rng(len(ids))
    return vectors(chance.normal(size=(len(ids), WIDTH)).astype(np.float32))


def _embed(artifact: Artifact, real: Manifest) -> dict[str, Any]:
    ids = [i for i, split in zip(real.column("image_id"), real.column("split"), strict=True) if split != "test"]
    table = pa.table({"image_id": ids, "embedding": _vectors(ids)})
    artifact.units().commit("images-000000", lambda folder: pq.write_table(table, folder / "embeddings.parquet"))
    pq.write_table(SET_ASIDE.empty_table(), artifact.path / "quarantine.parquet")
    return {}


def _cluster(artifact: Artifact, real: Manifest, world: World) -> dict[str, Any]:
    rows = [row for row in real.rows() if row["split"] == "train"]
    table = {name: [row[name] for row in rows] for name in ("image_id", "label", "attribute")}
    pq.write_table(
        pa.table(table | {"cluster": [i % world.clusters for i in range(len(rows))]}),
        artifact.path / "clusters.parquet",
    )
    return {}


def _finetune(artifact: Artifact, world: World) -> dict[str, Any]:
    weights = {"lora": np.ones((2, 2), np.float32)}
    for group in world.groups:
        for cluster in range(world.clusters):
            name, images = f"{group.slug}--{cluster}", len(range(cluster, _TRAIN, world.clusters))
            facts = group._asdict() | {"name": name, "cluster": cluster, "images": images, "failed": ""}
            facts |= {"prompt": "a photo", "steps": 1, "best_step": 1, "validation": []}

            def write(folder: Path, facts: dict[str, Any] = facts) -> None:
                save_file(weights, folder / "pytorch_lora_weights.safetensors")
                (folder / "adapter.json").write_text(json.dumps(facts), "utf-8")

            artifact.units().commit(name, write)
    return {}


def _synthetic(artifact: Artifact, world: World) -> list[dict[str, Any]]:
    """Three of four images are accepted; ``shortfall`` of each group's are not made."""
    rows = []
    for place, group in enumerate(world.groups):
        for i in range(world.images):
            cluster = i % world.clusters
            reason = "" if i % 4 else ("low_score", "wrong_label")[i % 8 // 4]
            facts = {"route": "own", "adapter": f"{group.slug}--{cluster}", "cluster": cluster, "prompt": world.text}
            facts |= {"seed": 10**6 * place + i, "unit": f"u{place}-{cluster}", "copy_of": None, "reason": reason}
            verdict = "rejected" if reason else ACCEPTED
            rows.append({"image_id": _id("made", place, i)} | group._asdict() | facts | {"verdict": verdict})
    names = ["image_id", "label", "attribute", "route", "adapter", "prompt", "unit", "copy_of", "reason", "verdict"]
    schema = pa.schema([(name, pa.string()) for name in names] + [("cluster", pa.int64()), ("seed", pa.int64())])
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, artifact.path / TABLE)
    for unit in sorted({row["unit"] for row in rows}):
        its = [row["image_id"] for row in rows if row["unit"] == unit]
        files = [_picture(int(image[:8], 16), world) for image in its]
        held = pa.table({"image_id": its, "file": files, "embedding": _vectors(its)})
        artifact.units().commit(unit, lambda folder, held=held: pq.write_table(held, folder / "images.parquet"))
    return rows


def _records(made: Sequence[dict[str, Any]], world: World) -> dict[str, Any]:
    records = []
    for group in world.groups:
        its = [row for row in made if (row["label"], row["attribute"]) == group]
        good = sum(row["verdict"] == ACCEPTED for row in its)
        quota = good + world.shortfall if its else 12
        left = (
            {"origin": "own", "route": "own", "why": ""}
            if its
            else {"origin": "none", "route": "none", "why": world.text}
        )
        record = GroupRecord(
            group=group, real=_TRAIN, quota=quota, adapters=(), prompts=(world.text,), k=world.clusters, made=len(its),
            accepted=good, rejected={"low_score": len(its) - good}, probe_agreement_made=0.9 if its else None,
            remark=world.text, not_made="" if its else "trial", recognised=Recognised(3, 4), **left,
        )  # fmt: skip
        records.append(record.to_json())
    told = synthesis(world.text)
    return {
        "groups": records,
        "trials": told["trials"],
        "probe_right": told["probe_right"],
        "codec": {},
        "copy_threshold": 0.9,
    }


def _audit(artifact: Artifact, made: Sequence[dict[str, Any]], world: World) -> dict[str, Any]:
    result = audit(world.text, world.passed)
    name = [group._asdict() for group in (world.groups if made else ())]
    for part in ("groups", "clusters"):
        result[part] = [result[part][0] | names for names in name]
    if not made:
        result |= {"shortcuts": [], "warnings": []}
        result["copies"]["images"] = 0
    if not world.passed:
        result["copies"]["self_test"] = {"passed": False, "why": "too few real images"}
    (artifact.path / "audit.json").write_text(json.dumps(result), "utf-8")
    return {}


def _tune(artifact: Artifact, world: World) -> dict[str, Any]:
    lines = ["method,trial,worst_group_accuracy,worst_class_accuracy,accuracy,epochs,finished,chosen,seconds"]
    for method in world.methods:
        lines += [f"{method},0,0.5,0.6,0.7,3,true,true,1.5", f"{method},1,0.4,0.5,0.6,3,false,false,1.5"]
    (artifact.path / "trials.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (artifact.path / "trials.json").write_text(json.dumps([{}] * (len(lines) - 1)), "utf-8")
    settings = {method: {"epochs": 3} for method in world.methods}
    if "fairsynth" in settings:
        settings["fairsynth"] |= {"synthetic": "mix", "stage_2": "none"}  # type: ignore[dict-item]
    return {"settings": settings, "policies": [], "note": ""}


def _evaluate(artifact: Artifact, real: Manifest, world: World) -> dict[str, Any]:
    labels = sorted({group.label for group in world.groups})
    rows = []
    for place, method in enumerate(world.methods):
        for seed in range(world.seeds):
            chance = np.random.default_rng([place, seed])
            for row in (row for row in real.rows() if row["split"] == "test"):
                right = chance.random() < 0.5 + 0.2 * place
                says = row["label"] if right or len(labels) == 1 else labels[labels.index(row["label"]) - 1]
                probabilities = [0.9 if label == says else 0.1 / max(1, len(labels) - 1) for label in labels]
                kept = {name: row[name] for name in ("image_id", "label", "attribute", "true_attribute")}
                rows.append(
                    {"method": method, "seed": seed} | kept | {"predicted": says, "probabilities": probabilities}
                )
    pq.write_table(pa.Table.from_pylist(rows), artifact.path / "predictions.parquet")
    folder = artifact.path / "classifiers" / "fairsynth-0"
    folder.mkdir(parents=True)
    save_file({"weight": np.ones((2, 2), np.float32)}, folder / "head.safetensors")
    return {}
