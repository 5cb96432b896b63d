"""What networks are told of all prompts of a run, computed once and shared by all lots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fairsynth.config import ModelsConfig
from fairsynth.models.diffusion import encode_prompts, text_encoder
from fairsynth.models.families.conditions import Conditions
from fairsynth.models.memory import OWN_GPU, Parts

_FILE = "texts.parquet"
_MASK = "mask"


def write_texts(models: ModelsConfig, prompts: Sequence[str], folder: Path) -> None:
    """Encode the prompts, at least one, and write them: a column prompt, and for every tensor its values and its shape."""
    parts = Parts("a prompt", OWN_GPU)
    with text_encoder(models) as encoder:
        encoded = parts(len(prompts), partial(_encoded, encoder, prompts))
        del encoder
    texts = [text for part in encoded for text in part]
    columns: dict[str, pa.Array] = {"prompt": pa.array(prompts, pa.string())}
    for name in texts[0]:
        columns[name] = pa.array([text[name].flatten().numpy() for text in texts], pa.large_list(pa.float32()))
        columns[f"{name}_shape"] = pa.array([list(text[name].shape) for text in texts], pa.list_(pa.int32()))
    pq.write_table(pa.table(columns), folder / _FILE)


def _encoded(encoder: Any, prompts: Sequence[str], part: slice) -> list[Conditions]:
    return _singly(encode_prompts(encoder, prompts[part]))


def _singly(batch: Conditions) -> list[Conditions]:
    """Each prompt's tensors, float32 on the CPU; of a text with a mask only the tokens that count."""
    found = []
    for place in range(len(batch["text"])):
        one = {name: value[place].float().cpu() for name, value in batch.items()}
        if _MASK in one:
            counts = one[_MASK] > 0
            one["text"], one[_MASK] = one["text"][counts], one[_MASK][counts]
        found.append(one)
    return found


def read_texts(folder: Path) -> dict[str, Conditions]:
    """What a network is told of every prompt, by name, without a batch: float32, masks bool."""
    table = pq.read_table(folder / _FILE)
    names = [name for name in table.column_names if f"{name}_shape" in table.column_names]
    found: dict[str, Conditions] = {prompt: {} for prompt in table["prompt"].to_pylist()}
    for name in names:
        shapes = table[f"{name}_shape"].to_pylist()
        for prompt, values, shape in zip(found, table[name].combine_chunks(), shapes, strict=True):
            tensor = torch.from_numpy(np.array(values.values)).view(shape)
            found[prompt][name] = tensor.bool() if name == _MASK else tensor
    return found
