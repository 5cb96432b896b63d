"""What a network is told of prompts, encoded by text encoders that are gone before the network comes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from fairsynth.config import ModelsConfig
from fairsynth.models.diffusion import encode_prompts, text_encoder
from fairsynth.models.families.conditions import Conditions, joined, mapped

# Texts besides the first that stay in memory.
_KEPT = 256


class Texts:
    """Prompts of a base model, each encoded once and alone, so that no neighbour changes a bit of it.

    ``first``: prompts that there will be. Encoders are often larger than the network; they are loaded for as long as they
    work, and what they find waits in the host's memory.
    """

    def __init__(self, models: ModelsConfig, first: Iterable[str] = ()) -> None:
        self.models, self._known, self._first = models, dict[str, Conditions](), 0
        self._encode(first)
        self._first = len(self._known)

    def __call__(self, texts: Sequence[str], device: torch.device) -> Conditions:
        """What the network is told of these texts, a batch. Raises DataError for a text that would be cut."""
        self._encode(texts)
        return mapped(lambda value: value.to(device), joined([self._known[text] for text in texts]))

    def __len__(self) -> int:
        return len(self._known)

    def _encode(self, texts: Iterable[str]) -> None:
        texts = list(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            if len(self._known) > self._first + _KEPT:
                self._known = dict(list(self._known.items())[: self._first])
                new = [text for text in dict.fromkeys(texts) if text not in self._known]
            self._known |= _encoded(self.models, new)


def _encoded(models: ModelsConfig, texts: Sequence[str]) -> dict[str, Conditions]:
    with text_encoder(models) as encoder:
        found = {text: mapped(torch.Tensor.cpu, encode_prompts(encoder, [text])) for text in texts}
        del encoder
    return found
