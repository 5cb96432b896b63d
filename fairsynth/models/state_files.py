"""Files of training states: tensors and facts. A reader finds a whole file or none, also while it is being written."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from fairsynth.artifacts import sync
from fairsynth.store.mirror import newest, sent

SUFFIX = ".safetensors"
_LONGEST = 100_000_000  # bytes of a header, as the library itself has it
_ENTRY, _LENGTH = "state", 8  # bytes at the start of a safetensors file with the length of its header


def write_state(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write a state: a reader finds the old one or the new one, never half of one."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, {_ENTRY: json.dumps(dict(facts))})
    # On a shared disk the new name can be there before the content, if the machine dies.
    sync(partial)
    partial.replace(path)
    sync(path.parent)
    sent(path)


def read_state(
    path: Path, wanted: Callable[[Mapping[str, Any]], bool] = lambda facts: True
) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """Facts and tensors of a state; None if it is missing or damaged, or if its facts are not ``wanted``."""
    # One descriptor for header and tensors: by name they could come from two states, one written over the other.
    try:
        with newest(path).open("rb") as file:
            start = file.read(_LENGTH)
            length = int.from_bytes(start, "little")
            if length > _LONGEST:
                return None
            header = file.read(length)
            facts = json.loads(json.loads(header)["__metadata__"][_ENTRY])
            return (facts, load(start + header + file.read())) if wanted(facts) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError, SafetensorError):
        return None
