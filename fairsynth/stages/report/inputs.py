"""What the report is written from: the finished stages and the real images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fairsynth.artifacts import Artifact
from fairsynth.config import RunConfig
from fairsynth.groups import Group
from fairsynth.manifest import Manifest


@dataclass(frozen=True)
class Inputs:
    """The finished stages by name, and what their figures refer to.

    ``ingested``: all usable real images; ``manifest``: the same, with discovered attributes where there are some.
    ``group_names``: labels and attributes. ``dataset``: where the real images lie. ``models``: pretrained models and sizes
    that results depend on.
    """

    config: RunConfig
    artifacts: Mapping[str, Artifact]
    ingested: Manifest
    manifest: Manifest
    group_names: tuple[list[str], list[str]]
    dataset: str
    models: Mapping[str, str]

    @property
    def groups(self) -> list[Group]:
        """Every pair of label and attribute, in the order of ``group_names``."""
        labels, attributes = self.group_names
        return [Group(label, attribute) for label in labels for attribute in attributes]
