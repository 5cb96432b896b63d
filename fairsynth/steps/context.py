"""What the steps share: the configuration, the output folder, the artifacts so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fairsynth.artifacts import Artifact, Counts, Identity
from fairsynth.config import RunConfig
from fairsynth.engine.session import Session
from fairsynth.engine.units import Ran
from fairsynth.manifest import Manifest
from fairsynth.models.sources import clip_source, diffusion_source, revision


@dataclass
class Context:
    """The state of one invocation. ``lookup_only``: steps name their artifact and do nothing."""

    config: RunConfig
    root: Path
    session: Session
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    lookup_only: bool = False

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
    def manifest(self) -> Manifest:
        """All usable real images."""
        return Manifest.read(self.artifacts["ingest"].path / "manifest.parquet")

    @property
    def data_root(self) -> Path:
        """Folder of the dataset."""
        data = self.config.data
        if data.format == "demo":
            return self.root / "dataset" / f"demo-{data.severity:g}-{self.config.seed}"
        return Path(data.root).expanduser()


@dataclass(frozen=True)
class Done:
    """A step's artifact, and one line for people."""

    artifact: Artifact
    summary: str = ""
    cached: bool = False


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
            units=ran.made + ran.cached,
            cached=ran.cached,
            summary=summary,
            **facts,
        )
        return Done(self.artifact, summary)


def found(artifact: Artifact) -> Done:
    """A finished artifact: nothing to do."""
    return Done(artifact, f"nothing to do: {artifact.record.get('summary', '')}", cached=True)
