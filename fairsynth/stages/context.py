"""What the steps share: the configuration, the output folder, the artifacts so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fairsynth.artifacts import Artifact, Counts, Identity
from fairsynth.config import RunConfig
from fairsynth.data.location import ImageReader
from fairsynth.data.reading import Reading
from fairsynth.data.storage import Storage
from fairsynth.engine.session import Session
from fairsynth.engine.units import Ran
from fairsynth.manifest import TEST, Manifest
from fairsynth.models.sources import clip_source, diffusion_source, revision

DISCOVERED = "discovered.parquet"
DEMO_SEVERITY = 0.95


@dataclass
class Context:
    """The state of one invocation. ``lookup_only``: steps name their artifact and do nothing."""

    config: RunConfig
    root: Path
    session: Session
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    lookup_only: bool = False
    reading: Reading | None = None

    def artifact(
        self, stage: str, version: int, inputs: tuple[str, ...], config: Mapping[str, Any], **extra: str
    ) -> Artifact:
        """The stage's artifact, from what it reads: config values, earlier stages, model revisions."""
        digests = {name: self.artifacts[name].digest for name in inputs}
        return Artifact(self.root, Identity(stage, version, config, digests, extra))

    @property
    def model_identity(self) -> dict[str, str]:
        """Which generative models and sizes a result depends on."""
        models = self.config.models
        return {
            "diffusion": revision(diffusion_source(models), models.diffusion_revision),
            "clip": revision(clip_source(models), models.clip_revision),
            "dtype": models.dtype,
            "image_size": str(models.image_size),
        }

    @cached_property
    def ingested(self) -> Manifest:
        """All usable real images, as ingest left them."""
        return Manifest.read(self.artifacts["ingest"].path / "manifest.parquet")

    @property
    def manifest(self) -> Manifest:
        """All usable real images; discovered attributes take their place once there are any."""
        if self.config.data.attribute == "discover" and "cluster" in self.artifacts:
            return self._discovered
        return self.ingested

    @cached_property
    def _discovered(self) -> Manifest:
        table = pq.read_table(self.artifacts["cluster"].path / DISCOVERED)
        kinds = dict(zip(table["image_id"].to_pylist(), table["attribute"].to_pylist(), strict=True))
        # An image without a usable embedding has no kind, and so no group: embed has counted it.
        known = (
            i in kinds or s == TEST for i, s in zip(*map(self.ingested.column, ("image_id", "split")), strict=True)
        )
        usable = self.ingested.filter(known)
        return usable.replaced("attribute", [kinds.get(i, "") for i in usable.column("image_id")])

    @property
    def group_names(self) -> tuple[list[str], list[str]]:
        """Labels and attributes of the whole dataset, sorted: their indices are the classifier's."""
        return tuple(sorted({v for v in self.manifest.column(n) if v}) for n in ("label", "attribute"))  # type: ignore[return-value]

    @property
    def demo_severity(self) -> float:
        """The built-in dataset's own severity: less than its usual one only if less is asked for."""
        return min(DEMO_SEVERITY, self.config.data.severity or DEMO_SEVERITY)

    @property
    def demo_root(self) -> Path:
        """Where the built-in dataset is written."""
        less = "" if self.demo_severity == DEMO_SEVERITY else f"-{self.demo_severity:g}"
        return self.root / "dataset" / f"demo-{self.config.seed}{less}"

    @cached_property
    def storage(self) -> Storage:
        """The dataset's folder."""
        data = self.config.data
        return Storage(str(self.demo_root) if data.format == "demo" else data.root, data.follow_links)

    @cached_property
    def images(self) -> ImageReader:
        """Reads the dataset's images."""
        return ImageReader(self.storage)


@dataclass(frozen=True)
class Done:
    """A step's artifact, one line for people, and what they should know besides."""

    artifact: Artifact
    summary: str = ""
    cached: bool = False
    remarks: tuple[str, ...] = ()


class Stopwatch:
    """Times a step and finishes its artifact."""

    def __init__(self, context: Context, artifact: Artifact) -> None:
        self.context, self.artifact = context, artifact
        self.began, self.ray_before = time.monotonic(), context.session.startup_seconds

    def finish(self, counts: Counts, ran: Ran, summary: str, digest: str | None = None, **facts: Any) -> Done:
        """Write the record; start-up is Ray's own plus the workers' until their first result."""
        startup = self.context.session.startup_seconds - self.ray_before + ran.startup_seconds
        self.artifact.finish(
            counts,
            time.monotonic() - self.began,
            digest,
            startup_seconds=round(startup, 2),
            workers=self.context.session.workers,
            units=ran.made + ran.cached,
            cached=ran.cached,
            summary=summary,
            **facts,
        )
        return Done(self.artifact, summary, remarks=tuple(facts.get("remarks", ())))


def found(artifact: Artifact) -> Done:
    """A finished artifact: nothing to do."""
    return Done(artifact, f"nothing to do: {artifact.record.get('summary', '')}", cached=True)
