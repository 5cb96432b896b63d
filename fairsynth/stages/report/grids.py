"""Grids of images for the report: real, accepted and rejected ones of each group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact
from fairsynth.data.location import ImageReader, same_content
from fairsynth.data.samples import spread
from fairsynth.manifest import Manifest
from fairsynth.stages.report.page import sheet
from fairsynth.stages.synthesize.output import ACCEPTED, TABLE, members, read_files

GRID_IMAGES = 24


def grids(synthesized: Artifact, train: Manifest, images: ImageReader) -> list[dict[str, Any]]:
    """Real, accepted and rejected images of each group, as pictures for the page.

    Raises DataError for a real image that is not what it was when it was ingested.
    """
    table = pq.read_table(synthesized.path / TABLE, columns=["image_id", "unit", "label", "attribute", "verdict"])
    places, good = members(table), pc.equal(table["verdict"], ACCEPTED).to_numpy()
    found = []
    for group in sorted({*train.counts(), *places}):
        rows = places.get(group, np.zeros(0, np.int64))
        kept, dropped = (
            table.take(pa.array(spread(rows[good[rows] == wanted].tolist(), GRID_IMAGES), pa.int64())).to_pylist()
            for wanted in (True, False)
        )
        files = read_files(synthesized, kept + dropped)
        chosen = spread(train.of_group(group).rows(), GRID_IMAGES)
        real = [same_content(images, row) for row in chosen]
        pictures = [
            ("real", sheet(real)),
            *(
                (caption, sheet([files[row["image_id"]] for row in part]))
                for caption, part in (("synthetic, accepted", kept), ("synthetic, rejected", dropped))
            ),
        ]
        found.append({"title": f"{group.label}, {group.attribute}", "images": pictures})
    return found
