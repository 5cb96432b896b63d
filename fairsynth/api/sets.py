"""The sets of images of a run, from what its stages left."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.api.images import ImageSet, RealImage, SyntheticImage
from fairsynth.config import DataConfig, RunConfig
from fairsynth.data.location import ImageReader, same_content
from fairsynth.data.storage import Storage
from fairsynth.demo.place import write_demo
from fairsynth.errors import DataError
from fairsynth.exports.formats import image_folder
from fairsynth.groups import grouped
from fairsynth.manifest import SPLITS
from fairsynth.store.mirror import here, newest, place_of

Names = Mapping[str, Sequence[str]]
# Columns of synthesize's table that are equal for all accepted images, or of no use without the stage's folder.
_WITHIN = ["verdict", "reason", "unit", "phash"]


def built_in_root(out: Path, name: str, config: RunConfig) -> str:
    """Where the built-in dataset lies: in the output folder, which may have been moved; of a bucket's in this machine's copy."""
    if place_of(out):  # each machine writes it for itself
        write_demo(out, config)
    return str(out / "dataset" / name)


def real_images(manifest: pa.Table, root: str, data: DataConfig, names: Names) -> ImageSet[RealImage]:
    """The images of a manifest, in the dataset at ``root``, read as ``data`` says. Raises DataError if that is not there."""
    make = partial(_real, ImageReader(Storage(root, data.follow_links), data.images.max_bytes))
    return ImageSet(manifest, make, {**names, "split": SPLITS})


def synthetic_images(stage: Path, codec: Mapping[str, Any], view: Path, names: Names) -> ImageSet[SyntheticImage]:
    """The accepted images of synthesize's folder, read from ``view``, the folder ``synthetic/``: of a bucket's each image is
    fetched when it is read first.
    """
    from fairsynth.stages.synthesize.codec import Codec
    from fairsynth.stages.synthesize.output import ACCEPTED, TABLE

    table = pq.read_table(stage / TABLE)
    table = table.filter(pc.equal(table["verdict"].cast(pa.string()), ACCEPTED)).drop_columns(_WITHIN)
    places_N, groups = grouped(table)
    # The folders were filled in the table's order.
    of_group = [iter(range(len(table))) for _ in groups]
    folders = [image_folder(groups[place], next(of_group[place])) for place in places_N.tolist()]
    suffix, top = Codec.from_dict(codec).suffix, f"{view}"
    paths = [f"{top}/{f}/{name}{suffix}" for f, name in zip(folders, table["image_id"].to_pylist(), strict=True)]
    return ImageSet(table.append_column("path", pa.array(paths, pa.string())), partial(_synthetic, view), names)


def _common(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("image_id", "label", "attribute", "path")}


def _real(reader: ImageReader, row: Mapping[str, Any]) -> RealImage:
    return RealImage(**_common(row), split=row["split"], _read=partial(same_content, reader, row))


def _synthetic(view: Path, row: Mapping[str, Any]) -> SyntheticImage:
    # Of a bucket's image the path is its address there.
    inside = PurePosixPath(row["path"]).parts[-3:]
    read = partial(_file, view.joinpath(*inside), row["sha256"])
    return SyntheticImage(**_common(row), prompt=row["prompt"], seed=row["seed"], _read=read)


def _file(path: Path, sha256: str) -> bytes:
    """The bytes of an image of ``synthetic/``, which another config's run may have laid out anew. Raises DataError."""
    again = "'fairsynth run' with this run's options lays synthetic/ out again"
    try:
        content = here(path).read_bytes()
        if place_of(path) and hashlib.sha256(content).hexdigest() != sha256:
            content = newest(path).read_bytes()  # it was laid out anew since this machine fetched it
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; {again}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path} is not the image that this run made; {again}")
    return content
