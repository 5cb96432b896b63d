"""Sets of a run's images: the files are found where they were laid out, however many there are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.api.sets import synthetic_images
from fairsynth.errors import DataError
from fairsynth.exports.formats import FILES_PER_FOLDER, write_folder
from fairsynth.stages.synthesize.codec import Codec
from fairsynth.stages.synthesize.output import ACCEPTED, TABLE

NAMES = {"label": ["high", "low"], "attribute": ["red"]}


def test_the_files_of_many_images_are_found(tmp_path: Path) -> None:
    n = 2 * FILES_PER_FOLDER + 10
    rows = [
        {
            "image_id": f"{i:06d}",
            "label": "low" if i % 100 == 0 else "high",
            "attribute": "red",
            "verdict": "rejected" if i % 7 == 3 else ACCEPTED,
            "reason": "",
            "unit": "u",
            "phash": b"",
            "sha256": hashlib.sha256(b"%d" % i).hexdigest(),
            "prompt": "p",
            "seed": i,
        }
        for i in range(n)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / TABLE)
    accepted = [row for row in rows if row["verdict"] == ACCEPTED]
    (view := tmp_path / "synthetic").mkdir()
    told = [{name: row[name] for name in ("image_id", "label", "attribute")} for row in accepted]
    write_folder(view, ((row, b"%d" % int(row["image_id"])) for row in told), ".png")
    found = synthetic_images(tmp_path, Codec("PNG", "RGB", 8).to_dict(), view, NAMES)
    assert len(found) == len(accepted)
    assert [int(one.file) for one in found] == [one.seed for one in found] == [row["seed"] for row in accepted]
    assert all(Path(one.path).read_bytes() == one.file for one in found[:: len(found) // 5])
    assert {Path(one.path).parent.name for one in found} == {"high--red", "high--red.00001", "low--red"}
    Path(found[-1].path).unlink()
    with pytest.raises(DataError, match="lays synthetic/ out again"):
        found[-1].file  # noqa: B018
