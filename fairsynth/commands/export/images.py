"""The accepted images of a finished synthesize stage in the formats of other programs."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, output_root
from fairsynth.commands.export.finished import finished_stages
from fairsynth.config import RunConfig
from fairsynth.errors import DataError
from fairsynth.exports.formats import extension, write_folder, write_parquet, write_webdataset
from fairsynth.lock import reading
from fairsynth.run_folder.records import diagnosed
from fairsynth.stages.audit.output import privacy, read_audit
from fairsynth.stages.synthesize.output import TABLE, accepted
from fairsynth.stages.synthesize.view import write_cards
from fairsynth.stages.views import new_export, put_export

MARK = ".fairsynth-export"


def export_set(config: RunConfig, form: Literal["folder", "parquet", "webdataset"], target: Path | None = None) -> str:
    """Write the accepted images of this config's run; returns a line for people.

    ``target`` is ``<out>/synthetic-<form>`` if not given. Nothing is generated, and only an unchanged earlier
    export is replaced.
    Raises ConfigError if the stage is not finished, or ``target`` holds anything else or cannot be written;
    DataError if no image was accepted or the stage's files are damaged, OutputLockedError while a run writes there.
    """
    root = output_root(config.out)
    # A folder is made beside it: there is none beside "." or, on the same disk, beside a link.
    target = (target or root / f"synthetic-{form}").resolve()
    with reading(root), finished_stages(config) as (context, audited):
        artifact = context.artifacts["synthesize"]
        private = new_export(target, _is_export)
        try:
            with diagnosed(lambda: [artifact.path]):
                count = _write(artifact, form, private)
            write_cards(context, artifact, private, privacy(read_audit(audited)) if audited else None, form)
            (private / MARK).write_text(_listing(private), "utf-8")
            put_export(private, target, _is_export)
        finally:
            shutil.rmtree(private, ignore_errors=True)
    return f"{count} images in {target}"


def _write(artifact: Artifact, form: str, folder: Path) -> int:
    images: Iterator[tuple[dict[str, Any], bytes]] = accepted(artifact)
    first = next(images, None)
    if first is None:
        raise DataError(
            "nothing to export: no synthetic image was accepted; report.html says why none was made or all were rejected"
        )
    images = chain([first], images)
    if form == "folder":
        return write_folder(folder, images, f".{extension(first[1])}")
    if form == "webdataset":
        return write_webdataset(folder, images)
    return write_parquet(folder, images, types=pq.read_schema(artifact.path / TABLE))


def _is_export(folder: Path) -> bool:
    """Whether the folder is empty or holds an earlier export alone, unchanged."""
    try:
        return not any(folder.iterdir()) or (folder / MARK).read_text("utf-8") == _listing(folder)
    except (OSError, UnicodeDecodeError):
        return False


def _listing(folder: Path) -> str:
    """Digest of names, sizes and times of all files below, without the mark."""
    digest = hashlib.sha256()
    for top, folders, files in os.walk(os.fsencode(folder)):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = os.path.join(top, name)
            if path == os.fsencode(folder / MARK):
                continue
            facts = os.lstat(path)
            stamp = (facts.st_size, facts.st_mtime_ns) if name not in folders else "folder"
            digest.update(f"{os.path.relpath(path, os.fsencode(folder))!r} {stamp} {facts.st_mode}\n".encode())
    return digest.hexdigest()
