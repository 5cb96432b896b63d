"""What one adapter is made from."""

from __future__ import annotations

from dataclasses import dataclass

from fairsynth.groups import Group


@dataclass(frozen=True)
class AdapterJob:
    """One adapter to train: which images, under which prompt, from which seed."""

    group: Group
    cluster: int
    image_ids: tuple[str, ...]
    prompt: str
    class_prompt: str
    seed: int
    steps: int
    learning_rate: float
    warmup_steps: int = 0

    @property
    def name(self) -> str:
        """Name of the adapter and of its unit."""
        return f"{self.group.slug}--{self.cluster}"
