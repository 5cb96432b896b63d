"""Checks that need no model and no Ray: they end a hopeless run within seconds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fairsynth.config import RunConfig
from fairsynth.errors import ConfigError, DataError
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN


def check_early(config: RunConfig, root: Path) -> None:
    """Read the metadata and compare it with the config.

    Raises DataError or ConfigError: no dataset, bad metadata, k larger than a group, an output
    folder inside the dataset.
    """
    if config.data.format == "demo":
        return
    from fairsynth.data.table import dataset_root
    from fairsynth.stages.ingest import read_entries

    folder = dataset_root(config.data.root).resolve()
    if root == folder or root.is_relative_to(folder):
        raise ConfigError(
            f"the output folder {root} lies inside the dataset {folder}, which is never written to; choose another with --out"
        )
    entries = {entry.path: entry for entry in read_entries(config.data)}.values()
    check_k(config, Counter(Group(e.label, e.attribute) for e in entries if e.split == TRAIN))


def check_k(config: RunConfig, counts: Counter[Group]) -> None:
    """Raise DataError if a fixed k is larger than a group that is to be clustered."""
    k = config.cluster.k
    if k == "auto" or config.finetune.generator != "clustered-dreambooth":
        return
    for group, n in sorted(counts.items()):
        if config.cluster.min_group <= n < k:
            raise DataError(
                f"cluster.k is {k}, but group {group} has only {n} training images; set --cluster.k to {n} or less, or to auto"
            )
