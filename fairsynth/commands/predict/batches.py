"""Classifies many images in batches that are committed one by one, so that a killed command goes on where it was."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.artifacts import Units, fingerprint
from fairsynth.commands.predict.classify import ClassifyBatch, DecodeBatch
from fairsynth.config import ResourcesConfig
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows, write_plan
from fairsynth.engine.session import session_of
from fairsynth.engine.units import run_units
from fairsynth.errors import ConfigError, InfrastructureError, OutputLockedError
from fairsynth.exports.classifier_folder import image_size
from fairsynth.lock import locked
from fairsynth.run_folder.files import is_folder, remove
from fairsynth.work import Ran, run_local

# Images of a batch, which goes through the network at once: other numbers round otherwise.
BATCH = 64
FEW = 2048  # up to this many images, classifying takes less time than starting Ray
VERSION = 1
# What lies in the folder of batches: its lock, and batches of some images.
_OURS = re.compile(r"\.lock|[0-9a-f]{16}")
_CLASSIFIER = ("config.json", "model.safetensors", "preprocessor_config.json")


class Row(NamedTuple):
    """An image: its path, where its bytes are (``fairsynth.data.location``), and size and time of the file it is in."""

    path: str
    location: str
    stamp: tuple[int, int]


@contextmanager
def parts_of(to: Path) -> Iterator[Path]:
    """The folder beside a table where its batches are kept, held by this process; removed when the table is written.

    Raises ConfigError if it cannot be made, OutputLockedError if another process makes the same table.
    """
    parts = to.absolute().with_name(f".{to.name}.parts")  # workers have folders of their own
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {to.parent}: {error.strerror}; choose another table with --to") from error
    if not is_folder(parts) or any(not _OURS.fullmatch(name) for name in os.listdir(parts)):
        raise ConfigError(
            f"{parts}, where predict keeps its batches, holds other files; choose another table with --to"
        )
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(parts))
        except OutputLockedError:
            raise OutputLockedError(
                f"another fairsynth predict is writing {to}; wait for it, or choose another table with --to"
            ) from None
        yield parts
        shutil.rmtree(parts, ignore_errors=True)


def classified(
    storage: Storage, rows: Sequence[Row], classifier: Path, parts: Path, resources: ResourcesConfig
) -> tuple[pa.Table, Ran]:
    """A table ``classify.PREDICTED`` with a row for each of ``rows``, in their order, and how many batches were there before.

    Batches are committed in ``parts``. More than ``FEW`` images go to Ray's workers, with a GPU each where the cluster
    has any; the table does not depend on their number.
    Raises InfrastructureError if a worker's batches do not appear here, and what reading the images raises.
    """
    work = parts / _fingerprint(storage, rows, classifier)
    for other in parts.iterdir():  # of other images, or another classifier
        if _OURS.fullmatch(other.name) and other != work and is_folder(other):
            remove(other)
    work.mkdir(exist_ok=True)
    plan = PlanRows(work / "plan.parquet")
    columns = {"path": [row.path for row in rows], "location": [row.location for row in rows]}
    names = write_plan(plan.path, pa.table(columns), BATCH, "images")
    units, make = Units(work / "units"), partial(ClassifyBatch, classifier)
    decode = DecodeBatch(storage, plan, image_size(classifier))
    if len(rows) <= FEW:
        units.sweep()
        ran = run_local(units, names, make, decode)
    else:
        with session_of(resources) as session:
            ran = run_units(session, "predict", units, names, make, decode)
    if lost := set(names) - units.done():
        raise InfrastructureError(
            f"{len(lost)} of {len(names)} batches that workers made are not in {parts}; --to must name a table on a disk that "
            "all machines of the cluster share"
        )
    return pa.concat_tables([pq.read_table(units[name] / "predicted.parquet") for name in names]), ran


def _fingerprint(storage: Storage, rows: Sequence[Row], classifier: Path) -> str:
    images = hashlib.sha256()
    for row in rows:
        images.update(repr(tuple(row)).encode("utf-8", "surrogatepass"))
    digests = {}
    for name in _CLASSIFIER:
        with open(classifier / name, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return fingerprint(
        {"version": VERSION, "batch": BATCH, "root": storage.full(""), "images": images.hexdigest(), **digests}
    )
