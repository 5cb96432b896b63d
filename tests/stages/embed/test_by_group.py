"""Embeddings a group at a time: each group's own rows, however few fit into memory at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairsynth.artifacts import Artifact, Identity
from fairsynth.data.vectors import vectors
from fairsynth.groups import Group
from fairsynth.manifest import Manifest
from fairsynth.stages.embed.output import by_group
from fairsynth.work import write_tables

WIDTH = 4


def embedded(out: Path, seed: int) -> tuple[Artifact, Manifest, dict[str, np.ndarray]]:
    """Some units of vectors, one of them without any; a manifest with copies and test images that have none."""
    rng, rows, known = np.random.default_rng(seed), [], {}
    artifact = Artifact(out, Identity("embed", 0, {}, {}))
    artifact.open()
    for unit, n in enumerate((7, 0, 30, 1)):
        ids = [f"{rng.integers(2**32):08x}" for _ in range(n)]
        values = rng.normal(size=(n, WIDTH)).astype(np.float32)
        known |= dict(zip(ids, values, strict=True))
        table = pa.table({"image_id": pa.array(ids, pa.string()), **({"embedding": vectors(values)} if n else {})})
        artifact.units().commit(f"images-{unit:06d}", lambda folder, table=table: write_tables({"embeddings": table}, folder))  # fmt: skip
        splits = ["val" if i % 6 == 5 else "train" for i in range(n)]
        rows += [
            _row(i, split, f"{rng.integers(2)}", f"{rng.integers(3)}") for i, split in zip(ids, splits, strict=True)
        ]
    rows += [_row("copy", "train", "0", "0"), _row("test", "test", "1", "1"), _row("rare", "train", "8", "8")]
    del rows[3]  # known to no manifest: it has no pseudo-attribute
    order = rng.permutation(len(rows))
    return artifact, Manifest.from_rows([rows[i] for i in order]), known


def _row(image: str, split: str, label: str, attribute: str) -> dict[str, str]:
    return {"image_id": image, "sha256": "", "path": image, "split": split, "label": label, "attribute": attribute, "source": "real"}  # fmt: skip


@pytest.mark.parametrize("most_bytes", [1, 7 * WIDTH * 4, 20 * WIDTH * 4, 1 << 30])
@pytest.mark.parametrize("seed", range(3))
def test_each_group_has_its_training_images_in_the_files_order(seed: int, most_bytes: int, tmp_path: Path) -> None:
    artifact, manifest, known = embedded(tmp_path, seed)
    found = [*by_group(artifact, manifest, most_bytes)]
    group_of = dict(zip(manifest.column("image_id"), manifest.groups(), strict=True))
    train = {*manifest.split("train").column("image_id")}
    wanted: dict[Group, list[str]] = {}
    for image in known:
        if image in train:
            wanted.setdefault(group_of[image], []).append(image)
    assert [(one.group, one.ids) for one in found] == sorted(wanted.items())
    for one in found:
        assert one.embeddings_ND.dtype == np.float32
        assert np.array_equal(one.embeddings_ND, [known[image] for image in one.ids])
