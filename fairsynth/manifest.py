"""The manifest: one row per real image that is used, as an Arrow table.

Columns that every manifest has are in ``SCHEMA``; stages add theirs and return new manifests.
``path`` is relative to the dataset's (or the synthetic set's) folder, so folders can move.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairsynth.groups import Group, counted, grouped

TRAIN, VALIDATION, TEST = "train", "val", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("sha256", pa.string()),
        ("path", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("attribute", pa.string()),
        ("source", pa.string()),
    ]
)
# What a stage does not use, and why: the rows of its quarantine and of what it excluded.
SET_ASIDE = pa.schema([("path", pa.string()), ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string())])

# A row as a dictionary takes ten times the memory that it has in a table.
_ROWS_AT_ONCE = 10_000


def image_id(path: str) -> str:
    """Identity of an image: 16 hex digits from its path inside the dataset."""
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def seed_for(*parts: object) -> int:
    """A 63-bit seed from any parts; the same on every machine and in every process."""
    text = json.dumps([str(part) for part in parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def noise_of(seed: int) -> int:
    """What torch's generator on the CPU makes of a seed: its low 32 bits decide all that it draws."""
    return seed & 0xFFFF_FFFF


def seeds_apart(draw: Callable[[int, int], int], n: int, taken: Collection[int] = ()) -> list[int]:
    """A seed for each of ``n`` numbers, ``draw(number, 0)``, such that no two give the same noise.

    One that would give the noise of an earlier number, or of ``taken`` (see ``noise_of``), is drawn again with 1, 2 and
    so on in place of 0. So the first k seeds are the same for every ``n``.
    """
    seen, seeds = set(taken), list[int]()
    for number in range(n):
        again = 0
        while (noise := noise_of(seed := draw(number, again))) in seen:
            again += 1
        seen.add(noise)
        seeds.append(seed)
    return seeds


class Manifest:
    """An immutable table of images.

    Raises ValueError if a column of ``SCHEMA`` is missing.
    """

    def __init__(self, table: pa.Table) -> None:
        missing = [name for name in SCHEMA.names if name not in table.column_names]
        if missing:
            raise ValueError(f"a manifest needs the columns {missing}")
        self.table = table

    @classmethod
    def from_rows(cls, rows: list[dict[str, Any]], extra: Mapping[str, pa.DataType] | None = None) -> Manifest:
        """Build from dictionaries; ``extra`` gives the types of further columns."""
        schema = pa.schema([*SCHEMA, *((name, arrow_type) for name, arrow_type in (extra or {}).items())])
        return cls(pa.Table.from_pylist(rows, schema=schema))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read from a Parquet file."""
        return cls(pq.read_table(path))

    def write(self, path: Path) -> None:
        """Write to a Parquet file."""
        pq.write_table(self.table, path)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def rows(self, *names: str) -> list[dict[str, Any]]:
        """All rows as dictionaries, in order; of many rows those columns alone that are named."""
        return (self.table.select(list(names)) if names else self.table).to_pylist()  # type: ignore[no-any-return]

    def column(self, name: str) -> list[Any]:
        """One column as a Python list."""
        return self.table.column(name).to_pylist()  # type: ignore[no-any-return]

    def filter(self, keep: Iterable[bool] | pa.ChunkedArray) -> Manifest:
        """The rows for which ``keep`` is true."""
        mask = keep if isinstance(keep, pa.ChunkedArray) else pa.array(list(keep), pa.bool_())
        return Manifest(self.table.filter(mask))

    def split(self, name: str) -> Manifest:
        """The rows of one split."""
        return self.filter(pc.equal(self.table["split"], name))

    def sorted(self) -> Manifest:
        """The rows ordered by image_id: independent of how they came."""
        return Manifest(self.table.sort_by("image_id"))

    def with_column(self, name: str, values: Iterable[Any], arrow_type: pa.DataType) -> Manifest:
        """A new manifest with one more column."""
        return Manifest(self.table.append_column(name, pa.array(list(values), arrow_type)))

    def replaced(self, name: str, values: Iterable[str]) -> Manifest:
        """A new manifest with other text in one column."""
        return Manifest(
            self.table.set_column(self.table.column_names.index(name), name, pa.array(list(values), pa.string()))
        )

    def groups(self) -> list[Group]:
        """The group of each row."""
        places_N, kinds = grouped(self.table)
        return [kinds[place] for place in places_N.tolist()]

    def counts(self) -> Counter[Group]:
        """Rows per group."""
        return counted(self.table)

    def of_group(self, group: Group) -> Manifest:
        """The rows of one group."""
        same = (pc.equal(self.table[name], value) for name, value in zip(Group._fields, group, strict=True))
        return self.filter(pc.and_(*same))

    def digest(self) -> str:
        """SHA-256 of the rows, whatever their order."""
        parts = (batch.to_pylist() for batch in self.table.to_batches(_ROWS_AT_ONCE))
        lines = sorted(json.dumps(row, sort_keys=True, default=_plain) for rows in parts for row in rows)
        digest = hashlib.sha256()
        for place, line in enumerate(lines):
            digest.update((f"\n{line}" if place else line).encode())
        return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)
