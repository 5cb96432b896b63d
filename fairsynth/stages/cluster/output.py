"""What cluster leaves: the cluster of each training image, and pseudo-attributes where these are discovered."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact
from fairsynth.data.vectors import matrix, vectors
from fairsynth.errors import DataError
from fairsynth.escaping import printable
from fairsynth.groups import Group
from fairsynth.manifest import TEST, Manifest
from fairsynth.models.probe import Recognised

CLUSTERS = "clusters.parquet"
AGREEMENT = "agreement.json"
_DISCOVERED, _CENTRES = "discovered.parquet", "kinds.parquet"


def read_clusters(artifact: Artifact) -> dict[Group, dict[str, int]]:
    """The cluster of each image of each group; groups without clusters are left out."""
    clusters: dict[Group, dict[str, int]] = defaultdict(dict)
    for row in pq.read_table(artifact.path / CLUSTERS).to_pylist():
        clusters[Group(row["label"], row["attribute"])][row["image_id"]] = row["cluster"]
    return clusters


def remark_on(artifact: Artifact, group: Group) -> str:
    """The remark on a rule that changed a group's clusters; empty if none did."""
    return str(artifact.record["groups"].get(group.slug, {}).get("remark", ""))


def recognised_facts(found: Mapping[Group, Recognised]) -> list[dict[str, Any]]:
    """For the stage's record: what ``recognised_groups`` reads."""
    return [{"label": g.label, "attribute": g.attribute, **its._asdict()} for g, its in sorted(found.items())]


def recognised_groups(artifact: Artifact) -> dict[Group, Recognised]:
    """Of each group with training images: the real images that the filter's probe recognises.

    Nothing of a run that is older than this.
    """
    return {
        Group(facts["label"], facts["attribute"]): Recognised(facts["right"], facts["judged"])
        for facts in artifact.record.get("recognised", ())
    }


def pseudo_attribute(index: int) -> str:
    """The name of a discovered attribute value; the same number in two labels means similar looks."""
    return f"kind-{index + 1}"


@dataclass(frozen=True)
class Discovered:
    """Unit vectors of the centres of a label's pseudo-attributes: float32 (K, D), row i of ``pseudo_attribute(i)``."""

    centres: Mapping[str, NDArray[np.float32]]

    def assign(self, labels_N: Sequence[str], embeddings_ND: NDArray[np.float32]) -> list[str]:
        """The pseudo-attribute of each image: the nearest centre of its label."""
        assigned = [""] * len(labels_N)
        members: dict[str, list[int]] = defaultdict(list)
        for index, label in enumerate(labels_N):
            members[label].append(index)
        for label, rows in members.items():
            if label not in self.centres:
                raise DataError(
                    f"no training image of label {printable(label)!r} has a usable embedding; 'quarantine.parquet' of the stage embed says why"
                )
            nearest = (embeddings_ND[rows] @ self.centres[label].T).argmax(1)
            for row, index in zip(rows, nearest, strict=True):
                assigned[row] = pseudo_attribute(int(index))
        return assigned


def write_centres(discovered: Discovered, folder: Path) -> None:
    """Write the centres, for images that come later."""
    table = [(label, centres) for label, centres in sorted(discovered.centres.items())]
    labels = [label for label, centres in table for _ in centres]
    columns = {"label": labels, "centre": vectors(np.concatenate([centres for _, centres in table]))}
    pq.write_table(pa.table(columns), folder / _CENTRES)


def read_centres(artifact: Artifact) -> Discovered:
    """The centres of a finished stage."""
    table = pq.read_table(artifact.path / _CENTRES)
    labels, centres = np.array(table.column("label").to_pylist()), matrix(table, "centre")
    return Discovered({str(label): centres[labels == label] for label in sorted(set(labels.tolist()))})


def write_discovered(assigned: Mapping[str, str], folder: Path) -> None:
    """Write the pseudo-attribute of each training and validation image, by image_id."""
    table = pa.table({"image_id": list(assigned), "attribute": list(assigned.values())})
    pq.write_table(table, folder / _DISCOVERED)


def with_discovered(ingested: Manifest, folder: Path) -> Manifest:
    """The manifest with pseudo-attributes in place of attributes; test images have none yet.

    An image without a usable embedding has no pseudo-attribute, and so no group: embed has counted it.
    """
    table = pq.read_table(folder / _DISCOVERED)
    assigned = dict(zip(table["image_id"].to_pylist(), table["attribute"].to_pylist(), strict=True))
    known = (i in assigned or s == TEST for i, s in zip(*map(ingested.column, ("image_id", "split")), strict=True))
    usable = ingested.filter(known)
    return usable.replaced("attribute", [assigned.get(i, "") for i in usable.column("image_id")])


def read_agreement(artifact: Artifact) -> dict[str, Any] | None:
    """How well pseudo-attributes agree with the true ones, by split; None where the truth is not known."""
    path = artifact.path / AGREEMENT
    return json.loads(path.read_text("utf-8")) if path.exists() else None
