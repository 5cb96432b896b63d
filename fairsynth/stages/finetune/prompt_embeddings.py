"""What networks are told of all prompts of a run, computed once and shared by all lots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fairsynth.config import ModelsConfig
from fairsynth.models.diffusion import encode_prompts, text_encoder
from fairsynth.models.families.conditions import MASK, Conditions
from fairsynth.models.memory import OWN_GPU, Parts
from fairsynth.models.texts import TEXTS_FILE, read_table, table_of


def write_texts(models: ModelsConfig, prompts: Sequence[str], folder: Path) -> None:
    """Encode the prompts, at least one, and write them: a column prompt, and for every tensor its values and its shape."""
    parts = Parts("a prompt", OWN_GPU)
    with text_encoder(models) as encoder:
        encoded = parts(len(prompts), partial(_encoded, encoder, prompts))
        del encoder
    texts = [text for part in encoded for text in part]
    pq.write_table(table_of(dict(zip(prompts, texts, strict=True))), folder / TEXTS_FILE)


def _encoded(encoder: Any, prompts: Sequence[str], part: slice) -> list[Conditions]:
    return _singly(encode_prompts(encoder, prompts[part]))


def _singly(batch: Conditions) -> list[Conditions]:
    """Each prompt's tensors, float32 on the CPU; of a text with a mask only the tokens that count."""
    found = []
    for place in range(len(batch["text"])):
        one = {name: value[place].float().cpu() for name, value in batch.items()}
        if MASK in one:
            counts = one[MASK] > 0
            one["text"], one[MASK] = one["text"][counts], one[MASK][counts]
        found.append(one)
    return found


def read_texts(folder: Path) -> dict[str, Conditions]:
    """What a network is told of every prompt, by name, without a batch: float32, masks bool."""
    return read_table(folder / TEXTS_FILE)
