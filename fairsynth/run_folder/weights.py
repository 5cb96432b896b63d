"""The header of a safetensors file, looked at before its weights are read.

The format: eight bytes with the header's length, little-endian, then JSON that says of each tensor its type, its shape and
its place in the bytes that follow (https://huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from fairsynth.run_folder.files import open_file

# The library itself takes no larger one.
_LONGEST = 100_000_000


def check_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty if it has none.

    Raises ValueError if the header is none, or does not fit the file's length; OSError if it cannot be read.
    """
    with open(open_file(path, os.O_RDONLY), "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST):
            raise ValueError("no header of a safetensors file")
        try:
            header = json.loads(handle.read(length))
        except RecursionError:
            raise ValueError("the header is nested too deep") from None
    if not isinstance(header, dict):
        raise ValueError(f"the header is a {type(header).__name__}, not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the header's metadata are no texts")
    ends = [_end(name, entry) for name, entry in header.items()]
    if 8 + length + max(ends, default=0) != size:
        raise ValueError(f"the file has {size} bytes, its header says {8 + length + max(ends, default=0)}")
    return metadata


def _end(name: str, entry: object) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int for offset in offsets):
        raise ValueError(f"the header does not say where the tensor {name[:100]!r} is")
    return int(offsets[1])
