"""The sets of images of a run, from what its stages left."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
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
from fairsynth.groups import Group
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
    suffix = Codec.from_dict(codec).suffix
    columns = (table[name].to_pylist() for name in ("label", "attribute", "image_id"))
    paths = [f"{_place(view, suffix, *facts)}" for facts in zip(*columns, strict=True)]
    make = partial(_synthetic, view, suffix)
    return ImageSet(table.append_column("path", pa.array(paths, pa.string())), make, names)


def _place(view: Path, suffix: str, label: str, attribute: str, name: str) -> Path:
    return view / "images" / Group(label, attribute).slug / f"{name}{suffix}"


def _common(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("image_id", "label", "attribute", "path")}


def _real(reader: ImageReader, row: Mapping[str, Any]) -> RealImage:
    return RealImage(**_common(row), split=row["split"], _read=partial(same_content, reader, row))


def _synthetic(view: Path, suffix: str, row: Mapping[str, Any]) -> SyntheticImage:
    place = _place(view, suffix, row["label"], row["attribute"], row["image_id"])
    read = partial(_file, place, row["sha256"])
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
