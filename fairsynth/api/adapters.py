"""A run's adapters: which there are, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from fairsynth.escaping import enumerated
from fairsynth.run_folder.records import read_facts

_FACTS, _SHARED = "adapter.json", "shared"


class AdapterKey(NamedTuple):
    """Of which images an adapter is: a cluster of a group. A plain tuple ``("high", "flower", 0)`` does as well."""

    label: str
    attribute: str
    cluster: int


class Adapters(Mapping[tuple[str, str, int], Path]):
    """The trained adapters of a run: (label, attribute, cluster) to the folder of its weights.

    ``base`` is the base model that they belong to: a folder, or a name on the hub. With
    ``finetune.parameters: full`` a folder holds a whole network instead.

    Examples
    --------
    >>> from diffusers import DiffusionPipeline  # doctest: +SKIP
    >>> pipeline = DiffusionPipeline.from_pretrained(run.adapters.base)  # doctest: +SKIP
    >>> pipeline.load_lora_weights(run.adapters["high", "flower", 0])  # doctest: +SKIP
    >>> pipeline(run.adapters.facts("high", "flower", 0)["prompt"]).images[0]  # doctest: +SKIP
    """

    def __init__(self, folder: Path, base: str) -> None:
        self._folder, self.base = folder, base

    @cached_property
    def _facts(self) -> dict[AdapterKey, tuple[Path, dict[str, Any]]]:
        found = {}
        for file in sorted(self._folder.glob(f"*/*/{_FACTS}")):
            facts = read_facts(file)
            if not facts["failed"]:
                found[AdapterKey(facts["label"], facts["attribute"], facts["cluster"])] = file.parent, facts
        return dict(sorted(found.items()))

    @property
    def shared(self) -> Path | None:
        """The folder of the adapter that has learnt all groups; None if there is none."""
        folder = self._folder / _SHARED
        return folder if (folder / _FACTS).is_file() else None

    def facts(self, label: str, attribute: str, cluster: int) -> dict[str, Any]:
        """How an adapter was trained: its prompt, images, steps, seed, losses. Raises KeyError if there is none."""
        return self._found((label, attribute, cluster))[1]

    def _found(self, key: tuple[str, str, int]) -> tuple[Path, dict[str, Any]]:
        found = self._facts.get(AdapterKey(*key) if isinstance(key, tuple) and len(key) == 3 else key)  # type: ignore[arg-type]
        if found is None:
            there = enumerated([tuple(one) for one in self._facts]) or "none"
            raise KeyError(f"no adapter {key!r}; a key is (label, attribute, cluster), and there are: {there}")
        return found

    def __getitem__(self, key: tuple[str, str, int]) -> Path:
        return self._found(key)[0]

    def __contains__(self, key: object) -> bool:
        return key in self._facts

    def __iter__(self) -> Iterator[AdapterKey]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __repr__(self) -> str:
        return f"<Adapters: {len(self)}{', and a shared one' if self.shared else ''}>"
