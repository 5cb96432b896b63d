"""What a network is told of prompts, encoded by text encoders that are gone before the network comes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from fairsynth.config import ModelsConfig
from fairsynth.models.diffusion import encode_prompts, text_encoder
from fairsynth.models.families.conditions import MASK, Conditions, joined, mapped

# Texts besides the first that stay in memory.
_KEPT = 256
TEXTS_FILE = "texts.parquet"
# Where a tensor is not float32, the field's metadata name its number format: values of narrower ones are float32 to the bit.
_FORMAT = b"format"
# Prompts that are read at a time: of some models each has 16 MB.
_ROWS = 32


class Texts:
    """Prompts of a base model, each encoded once and alone, so that no neighbour changes a bit of it.

    ``first``: prompts that there will be; ``known``: those that were encoded before, alone. Encoders are often larger than
    the network; they are loaded for as long as they work, and what they find waits in the host's memory.
    """

    def __init__(
        self, models: ModelsConfig, first: Iterable[str] = (), known: Mapping[str, Conditions] | None = None
    ) -> None:
        self.models, self._known, self._first = models, dict(known or {}), 0
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
            self._known |= encoded(self.models, new)


def encoded(models: ModelsConfig, texts: Sequence[str]) -> dict[str, Conditions]:
    """What the network is told of each text, encoded alone: a batch of one, on the CPU. Raises DataError as ``Texts``."""
    with text_encoder(models) as encoder:
        found = {text: mapped(torch.Tensor.cpu, encode_prompts(encoder, [text])) for text in texts}
        del encoder
    return found


def table_of(texts: Mapping[str, Conditions]) -> pa.Table:
    """At least one prompt, with a column ``prompt`` and two for every tensor: of floating point, or a mask."""
    rows = list(texts.values())
    fields, columns = [pa.field("prompt", pa.string())], [pa.array(texts, pa.string())]
    for name, first in rows[0].items():
        narrow = first.is_floating_point() and first.dtype != torch.float32
        told = {_FORMAT: str(first.dtype).removeprefix("torch.").encode()} if narrow else None
        fields.append(pa.field(name, pa.large_list(pa.float32()), metadata=told))
        columns.append(pa.array([row[name].float().flatten().numpy() for row in rows], fields[-1].type))
        fields.append(pa.field(f"{name}_shape", pa.list_(pa.int32())))
        columns.append(pa.array([list(row[name].shape) for row in rows], fields[-1].type))
    return pa.table(columns, pa.schema(fields))


def read_table(file: Path, wanted: Collection[str] | None = None) -> dict[str, Conditions]:
    """The tensors of every prompt, or of those that are ``wanted`` and there; masks are bool."""
    found = dict[str, Conditions]()
    with pq.ParquetFile(file) as stored:
        for rows in stored.iter_batches(_ROWS):
            if wanted is not None:
                rows = rows.filter(pc.is_in(rows["prompt"], pa.array(sorted(wanted), pa.string())))
            found |= _read(rows)
    return found


def _read(rows: pa.RecordBatch) -> dict[str, Conditions]:
    names = [name for name in rows.schema.names if f"{name}_shape" in rows.schema.names]
    found: dict[str, Conditions] = {prompt: {} for prompt in rows["prompt"].to_pylist()}
    for name in names:
        told = rows.schema.field(name).metadata or {}
        dtype = torch.bool if name == MASK else getattr(torch, told.get(_FORMAT, b"float32").decode())
        shapes = rows[f"{name}_shape"].to_pylist()
        for prompt, values, shape in zip(found, rows[name], shapes, strict=True):
            found[prompt][name] = torch.from_numpy(np.array(values.values)).view(shape).to(dtype)
    return found
