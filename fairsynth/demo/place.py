"""Where the built-in dataset lies, and which dataset a run reads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fairsynth.config import RunConfig
from fairsynth.data.dataset import Dataset as Dataset
from fairsynth.data.metadata import Metadata
from fairsynth.store.mirror import place_of

SEVERITY = 0.95
_TIME = 1_700_000_000.0


def demo_severity(config: RunConfig) -> float:
    """The built-in dataset's severity: below its usual one only if the config asks for less."""
    return min(SEVERITY, config.data.severity or SEVERITY)


def demo_root(root: Path, config: RunConfig) -> Path:
    """Where the built-in dataset is written, below an output's root."""
    severity = demo_severity(config)
    less = "" if severity == SEVERITY else f"-{severity:g}"
    return root / "dataset" / f"demo-{config.seed}{less}"


def write_demo(root: Path, config: RunConfig) -> Path:
    """Write the built-in dataset, unless it is there."""
    from fairsynth.demo import dataset

    folder = demo_root(root, config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Of an output in a bucket each machine has a copy, and an image's time is part of what it is known by.
    written_at = _TIME if place_of(root) else None
    return dataset.write(folder, demo_severity(config), config.seed, written_at)


def dataset_of(root: Path, config: RunConfig, metadata: Metadata | None) -> Dataset:
    """The real images where they lie; the built-in ones, once written, are a folder of images like any other."""
    data = config.data
    if data.format != "demo":
        return Dataset(data, metadata)
    folder = data.model_copy(update={"root": str(demo_root(root, config)), "format": "folder"})
    # Nodes that share no disk each write it for themselves: it is the same everywhere.
    return Dataset(folder, metadata, partial(write_demo, root, config) if place_of(root) else None)
