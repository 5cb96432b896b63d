"""How much memory the network of a base model takes, by the headers of its weights: nothing else of them is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fairsynth.config import FrozenWeights, ModelsConfig
from fairsynth.models.families.table import FAMILIES
from fairsynth.models.hub.at_hand import INDEX, cached
from fairsynth.models.sources import diffusion_source

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_BYTES = {"float32": 4, "bfloat16": 2}
# A matrix within numbered blocks, of which nearly all are a linear layer's (models.int8).
_IN_BLOCKS = re.compile(r"\.\d+\..+\.weight$")


def network_bytes(models: ModelsConfig, frozen_weights: FrozenWeights = "dtype") -> int | None:
    """The bytes of the network's weights on a device, about; None where the model is not on this machine, or is broken.

    ``frozen_weights``: as the setting of finetune.
    """
    from safetensors import SafetensorError

    each = _BYTES[models.dtype]
    try:
        return sum(
            rows * width + rows * each if frozen_weights == "int8" and _IN_BLOCKS.search(name) and width else
            rows * max(1, width) * each
            for name, rows, width in _matrices(models)
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        return None


def _matrices(models: ModelsConfig) -> Iterator[tuple[str, int, int]]:
    """Name, rows and width of every weight that is a matrix; of others all values, and width 0."""
    from safetensors import safe_open

    for file in _files(models):
        with safe_open(file, framework="numpy") as stored:
            for name in stored.keys():
                shape: Sequence[int] = stored.get_slice(name).get_shape()
                rows, *rest = shape or (1,)
                if len(rest) == 1:
                    yield name, rows, rest[0]
                    continue
                for size in rest:
                    rows *= size
                yield name, rows, 0


def _files(models: ModelsConfig) -> list[Path]:
    """The files of the network's weights. Raises OSError for a model that is not here, ValueError or KeyError for no model."""
    index = cached(diffusion_source(models), INDEX, models.diffusion_revision)
    if index is None:
        raise FileNotFoundError(INDEX)
    folder = index.parent / FAMILIES[str(json.loads(index.read_text("utf-8"))["_class_name"])].network
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    shards = json.loads((folder / f"{_WEIGHTS}.index.json").read_text("utf-8"))["weight_map"]
    # Names alone: where they lie is not for the model to say.
    return [folder / Path(name).name for name in sorted({*shards.values()})]
