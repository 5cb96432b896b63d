"""Storage: the output folder's rights and room, and the dataset's folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fairsynth.commands.doctor.check import Check, gib, one_line, within
from fairsynth.commands.doctor.probe import PROBE
from fairsynth.config import RunConfig
from fairsynth.data.recognise import recognise
from fairsynth.data.storage import Storage
from fairsynth.errors import FairsynthError, OutputLockedError
from fairsynth.lock import reading
from fairsynth.models.sources import is_demo

_ANSWER_SECONDS = 20
_GROUPS = 4  # of a dataset that was not looked at
_PER_GROUP = 5000
_REAL_MODELS, _TINY_MODELS = 5 * 2**30, 2**28  # adapters, checkpoints, embeddings, classifiers


def output_checks(root: Path) -> Iterator[Check]:
    """In the output folder, or in the nearest one above that is there, one can do what a run does."""
    if str(root).find(":/") > 0:
        do = "give a folder; a bucket must be mounted as one: --out DIR"
        yield Check("output folder", "failed", f"{root} looks like an address, not a folder", do)
        return
    base = existing(root)
    try:
        with tempfile.TemporaryDirectory(prefix=PROBE, dir=base) as probe:
            _use(Path(probe))
    except OSError as error:
        do = "choose another folder with --out, or make this one writable: a disk with file locks and renames"
        yield Check("output folder", "failed", f"{base}: {one_line(error)}", do)
        return
    try:
        with reading(root):
            pass
    except OutputLockedError as error:
        yield Check(
            "output folder", "warning", str(error).partition(";")[0], "wait for it, or choose another with --out"
        )
        return
    there = "" if base == root else f" (made in {base})"
    yield Check("output folder", "ok", f"{root}{there}: files can be written, renamed, listed and locked")


def _use(probe: Path) -> None:
    """What a run does to commit a unit. Raises OSError where the disk does not let it."""
    unit, name = probe / "unit.part", probe / "unit"
    unit.mkdir()
    with open(unit / "file", "wb") as handle:
        handle.write(bytes(4096))
        handle.flush()
        os.fsync(handle.fileno())
    unit.rename(name)
    if [entry.name for entry in os.scandir(probe)] != ["unit"]:
        raise OSError(0, "a folder that was renamed is not listed by its new name")
    with open(probe / "lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def space_check(config: RunConfig, root: Path) -> Check:
    """There is room for about what a run writes."""
    base, needed = existing(root), rough_need(config)
    free = shutil.disk_usage(base).free
    found = f"{gib(free)} free at {base}; a run of this kind writes roughly {gib(needed)}"
    if free < needed:
        return Check("disk space", "failed", found, "free some, or choose another disk with --out")
    if free < 2 * needed:
        return Check("disk space", "warning", found, "free some: that is close, and a resumed run keeps what it had")
    return Check("disk space", "ok", found)


def rough_need(config: RunConfig) -> float:
    """Bytes, by the settings alone: images (kept and rejected, and a copy of those kept), and what models leave."""
    per_group = config.synthesize.per_group
    images = _GROUPS * (per_group if isinstance(per_group, int) else _PER_GROUP)
    of_an_image = 1.5 * config.models.image_size**2  # bytes of a PNG of a photo
    return 3 * images * of_an_image + (_TINY_MODELS if is_demo(config.models.diffusion) else _REAL_MODELS)


def dataset_check(config: RunConfig) -> Check:
    """The dataset's folder can be listed and read; its rows are for ``fairsynth inspect``."""
    data = config.data
    if data.format == "demo":
        return Check("dataset", "ok", "the built-in one, written by the run")
    if not data.root:
        return Check("dataset", "warning", "none is given", "set data.root, or --data.root DIR")
    try:
        found = within(_ANSWER_SECONDS, lambda: _read(config))
    except TimeoutError as error:
        do = "check the network, and the bucket's name and region (AWS_DEFAULT_REGION, AWS_ENDPOINT_URL)"
        return Check("dataset", "failed", f"{data.root.partition('?')[0]}: {error}", do)
    except (FairsynthError, OSError) as error:
        return Check("dataset", "failed", one_line(error), _access(data.root.partition("?")[0]))
    return Check("dataset", "ok", found)


def _read(config: RunConfig) -> str:
    data = config.data
    storage = Storage(data.root, data.follow_links)
    layout = recognise(storage) if data.format == "auto" else data.format
    names = storage.names()
    first = next((name for name in names if storage.is_file(name)), None)
    if first is not None:
        with storage.open(first) as handle:
            handle.read(16)
    return f"{data.root.partition('?')[0]} can be listed and read (layout {layout}, {len(names)} entries at its top)"


def _access(root: str) -> str:
    if root.startswith("s3://"):
        return (
            "give read and list rights by the environment, a role or ~/.aws/credentials (s3:ListBucket, s3:GetObject)"
        )
    if root.startswith("gs://"):
        return "give read and list rights: gcloud auth application-default login, or a service account's role"
    return f"'fairsynth inspect {root}' looks closer"
