"""A dataset read, checked and decided on in this process: without Ray, and without a change to the dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairsynth.commands.inspect.run import inspect_dataset
from fairsynth.commands.inspect.text import lines
from fairsynth.config import DataConfig, RunConfig
from fairsynth.data.dataset import load
from fairsynth.data.metadata import Entry, Metadata
from fairsynth.data.storage import Storage
from fairsynth.engine.session import Session
from fairsynth.manifest import Manifest
from fairsynth.pipeline import STAGES
from fairsynth.stages.context import Context
from fairsynth.stages.ingest.content import CHECKED, CheckImages
from fairsynth.stages.ingest.decide import Decided, decide_manifest
from fairsynth.stages.stage import run_stage
from tests.support.datasets import unchanged

LENIENT = {
    "max_bad_fraction": 1,
    "max_bad_group_fraction": 1,
    "max_conflict_fraction": 1,
    "max_leak_fraction": 1,
    "allow_missing": True,
}
DEMO_MODELS = {"diffusion": "demo", "clip": "demo", "image_size": 32}


def metadata_of(root: Path, **data: Any) -> Metadata:
    """A dataset's metadata."""
    with unchanged(root):
        return load(DataConfig(root=str(root), **data), Storage(str(root), data.get("follow_links", False)))


def decided(root: Path, **data: Any) -> Decided:
    """What the stage ingest decides about a dataset."""
    config, found = DataConfig(root=str(root), **data), metadata_of(root, **data)
    rows = [{"path": path, "location": at} for path, at in sorted((e.path, e.location) for e in found.entries)]
    with unchanged(root):
        checked = CheckImages(Storage(str(root), config.follow_links), config.images)({"rows": rows})["checked"]
        return decide_manifest(config, found, checked)


def checked_as(entries: Sequence[Entry], look: Callable[[Entry], tuple[str, str]]) -> pa.Table:
    """The table that ``CheckImages`` makes, with made-up content: ``look`` gives SHA-256 and reason of each entry."""
    rows = []
    for entry in sorted(entries, key=lambda e: e.path):
        sha, reason = look(entry)
        facts = {} if reason else {"format": "PNG", "width": 9, "height": 9, "frames": 1}
        rows.append({"path": entry.path, "sha256": sha, "reason": reason, "detail": "", **facts})
    return pa.Table.from_pylist(rows, schema=CHECKED)


@dataclass(frozen=True)
class Ingested:
    """The artifact of the step ingest, read back."""

    folder: Path
    record: dict[str, Any]
    manifest: Manifest
    quarantine: list[dict[str, str]]
    excluded: list[dict[str, str]]

    @property
    def reasons(self) -> dict[str, str]:
        """Reason of each quarantined path."""
        return {row["path"]: row["reason"] for row in self.quarantine}


def ingested(root: Path, out: Path, **data: Any) -> Ingested:
    """Run the step ingest on a dataset."""
    config = RunConfig(out=str(out), data=DataConfig(root=str(root), **data), models=DEMO_MODELS)
    with unchanged(root):
        artifact = run_stage(Context(config, out, Session(config.resources)), STAGES["ingest"]).artifact
    tables = (pq.read_table(artifact.path / f"{name}.parquet").to_pylist() for name in ("quarantine", "excluded"))
    return Ingested(artifact.path, artifact.record, Manifest.read(artifact.path / "manifest.parquet"), *tables)


def inspected(root: Path, **data: Any) -> dict[str, Any]:
    """What inspect finds in a dataset; it is JSON without NaN, and has a text."""
    with unchanged(root):
        found = inspect_dataset(RunConfig(data=DataConfig(root=str(root), **data)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(line.isprintable() for line in lines(found))
    return found


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        self.text += " "
