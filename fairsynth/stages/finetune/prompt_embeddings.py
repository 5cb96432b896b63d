"""The embeddings of all prompts of a run, computed once and shared by all lots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fairsynth.config import ModelsConfig
from fairsynth.data.vectors import matrix, vectors
from fairsynth.models.diffusion import encode_prompts, load_text_encoder
from fairsynth.models.memory import OWN_GPU, Parts

_FILE = "texts.parquet"


def write_texts(models: ModelsConfig, prompts: Sequence[str], folder: Path) -> None:
    """Embed the prompts, at least one, and write them: columns prompt, embedding (tokens * width), tokens."""
    encoder = load_text_encoder(models)
    parts = Parts("a prompt", OWN_GPU)
    encoded = parts(len(prompts), lambda part: encode_prompts(encoder, prompts[part]).float().cpu())
    embeddings = torch.cat(encoded)
    tokens = pa.array([embeddings.shape[1]] * len(prompts))
    columns = {"prompt": list(prompts), "embedding": vectors(embeddings.flatten(1).numpy()), "tokens": tokens}
    pq.write_table(pa.table(columns), folder / _FILE)


def read_texts(folder: Path) -> dict[str, torch.Tensor]:
    """Every prompt's embedding, float32 (tokens, width)."""
    table = pq.read_table(folder / _FILE)
    rows = torch.from_numpy(matrix(table, "embedding").copy())
    texts = rows.view(len(table), table["tokens"][0].as_py(), -1)
    return dict(zip(table["prompt"].to_pylist(), texts, strict=True))
