"""Inputs of the audit: a sample of the synthetic images, and the real ones that they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairsynth.artifacts import Artifact
from fairsynth.data.samples import sample, spread
from fairsynth.data.vectors import matrix
from fairsynth.models.probe import Probe, fit_probe
from fairsynth.stages.audit.output import PER_GROUP
from fairsynth.stages.embed.output import RealImages, filter_probe
from fairsynth.stages.synthesize.output import ACCEPTED, members

# Training images to compare with when searching for copies.
TRAINING = 4000
COLUMNS = [
    *("image_id", "label", "attribute", "route", "adapter", "second_adapter", "cluster", "unit"),
    *("zero_shot_label", "zero_shot_attribute", "verdict"),
]


class Seen(NamedTuple):
    """Real images: those that adapters learnt from, those that taught the probe, and those held out."""

    train: RealImages
    known: RealImages
    held_out: RealImages

    @classmethod
    def of(cls, train: RealImages, validation: RealImages) -> Seen:
        """One half of the validation images has taught the probe."""
        return cls(train, *validation.halves())

    @property
    def filter_probe(self) -> Probe:
        """The probe that the filter went by; it has not seen the held-out images."""
        return filter_probe(self.train, self.known).probe

    @property
    def other_probe(self) -> Probe:
        """A probe that the filter did not use: by the filter's own probe all accepted images are right."""
        one = self.held_out if len(set(self.held_out.groups)) > 1 else self.train
        return fit_probe(one.embeddings_ND, one.groups, one.ids)


def reference_images(seen: Seen, learnt: Set[str]) -> RealImages:
    """Training images to compare with when searching for copies: those that adapters learnt, then some others."""
    parts = [[i for i, image in enumerate(seen.train.ids) if (image in learnt) == first] for first in (True, False)]
    own = sample(parts[0], TRAINING)
    return seen.train.take([*own, *sample(parts[1], TRAINING - len(own))])


def sampled(table: pa.Table) -> list[dict[str, Any]]:
    """Of each group at most PER_GROUP accepted rows, and as many others as were made beside them, spread evenly."""
    kept = pc.equal(table["verdict"], ACCEPTED).to_numpy()
    places: list[int] = []
    for its in members(table).values():
        good, bad = its[kept[its]].tolist(), its[~kept[its]].tolist()
        accepted = spread(good, PER_GROUP)
        # Rejected images in the same proportion as among all images made, which the sample stands for.
        places += [*accepted, *spread(bad, round(len(bad) * len(accepted) / len(good)) if good else PER_GROUP)]
    return table.take(pa.array(sorted(places), pa.int64())).to_pylist()  # type: ignore[no-any-return]


def embeddings_of(artifact: Artifact, rows: Sequence[Mapping[str, Any]], width: int) -> NDArray[np.float32]:
    """CLIP vectors of the images, in the rows' order."""
    known: dict[str, NDArray[np.float32]] = {}
    units, wanted = artifact.units(), dict.fromkeys(str(row["unit"]) for row in rows)
    units.here(wanted)
    for unit in wanted:
        table = pq.read_table(units[unit] / "images.parquet", columns=["image_id", "embedding"])
        known |= dict(zip(table["image_id"].to_pylist(), matrix(table, "embedding"), strict=True))
    return np.stack([known[row["image_id"]] for row in rows]) if rows else np.zeros((0, width), np.float32)
