"""Parquet: metadata and images that unpack to gigabytes, footers that lie, values that no text can be."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.hostile.cases import (
    INGEST,
    INIT,
    INSPECT,
    PLAN,
    Case,
    Place,
    an_image,
    good,
    refused,
    sparse,
    temporary,
    with_table,
)
from tests.support.data.dataset_files import put

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_NAMES = ("file_name", "split", "label", "attribute")


def _write(place: Place, name: str, table: pa.Table, **options: Any) -> None:
    (place.data / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, place.data / name, compression=options.pop("compression", "zstd"), **options)


def _metadata(place: Place, **columns: Any) -> None:
    good(place)
    (place.data / "metadata.csv").unlink()
    n = max(map(len, columns.values()))
    usual = {"file_name": ["train/0000.png"] * n, "split": ["train"] * n, "label": ["cat"] * n, "attribute": ["a"] * n}
    _write(place, "metadata.parquet", pa.table(usual | columns))


def _equal_rows(rows: int, groups: int, place: Place) -> None:
    good(place)
    (place.data / "metadata.csv").unlink()
    os.link(_file_of_equal_rows(rows, groups), place.data / "metadata.parquet")


@cache
def _file_of_equal_rows(rows: int, groups: int) -> Path:
    """Dictionaries of one value: some bytes a million rows."""
    zeros = pa.array(np.zeros(rows // groups, np.int32))
    table = pa.table({n: pa.DictionaryArray.from_arrays(zeros, pa.array(["train"])) for n in _NAMES})
    path = temporary() / f"{rows}-{groups}.parquet"
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(groups):
            writer.write_table(table, row_group_size=rows)
    return path


def _images(
    cells: int, size: int, place: Place, in_struct: bool = True, dictionary: bool = False, nulls: int = 0
) -> None:
    cell = bytes(size)
    values = [None] * nulls + [cell] * cells
    image = (
        pa.array([{"bytes": v, "path": None} for v in values], _IMAGE) if in_struct else pa.array(values, pa.binary())
    )
    n = len(values)
    table = pa.table({"image": image, "label": ["cat"] * n, "attribute": ["a"] * n})
    _write(place, "train-00000-of-00001.parquet", table, use_dictionary=dictionary, write_statistics=not nulls)


def _rows_of_images(rows: int, place: Place) -> None:
    """Rows whose image is null, or the same few bytes."""
    zeros = pa.array(np.zeros(rows, np.int32))
    columns = {n: pa.DictionaryArray.from_arrays(zeros, pa.array(["a"])) for n in ("label", "attribute")}
    columns["image"] = pa.DictionaryArray.from_arrays(zeros, pa.array([b"x"], pa.binary())).cast(pa.binary())
    _write(place, "train.parquet", pa.table(columns))


def _good_images(place: Place) -> bytes:
    cells = [{"bytes": an_image(i), "path": f"{i}.png"} for i in range(8)]
    table = pa.table({"image": pa.array(cells, _IMAGE), "label": ["cat", "dog"] * 4, "attribute": ["a"] * 8})
    _write(place, "train.parquet", table)
    return (place.data / "train.parquet").read_bytes()


def _damaged(change: Callable[[bytes], bytes], place: Place) -> None:
    put(place.data / "train.parquet", change(_good_images(place)))


def _paths(path: str, place: Place) -> None:
    cells = [{"bytes": None, "path": path.format(outside=place.outside)}] * 3
    table = pa.table({"image": pa.array(cells, _IMAGE), "label": ["cat"] * 3, "attribute": ["a"] * 3})
    _write(place, "train.parquet", table)


def _sparse(name: str, size: int, footer: int, place: Place) -> None:
    good(place)
    (place.data / "metadata.csv").unlink()
    sparse(place.data / name, size, b"PAR1", struct.pack("<I", footer) + b"PAR1")


def _wide(place: Place) -> None:
    _metadata(place, **{f"c{i}": [""] for i in range(3000)})


def _deep(place: Place) -> None:
    column = pa.array([None], pa.int8())
    for _ in range(60):
        column = pa.ListArray.from_arrays(pa.array([0, len(column)], pa.int32()), column)
    _metadata(place, label=column)


def _huggingface(place: Place) -> None:
    _metadata(place, label=[0, 1])
    table = pq.read_table(place.data / "metadata.parquet")
    described = b'{"info": {"features": ' + b'{"label": ' * 5000 + b"1" + b"}" * 5002
    _write(place, "metadata.parquet", table.replace_schema_metadata({b"huggingface": described}))


_ODD: dict[str, Callable[[], dict[str, Any]]] = {
    "times out of range": lambda: {"label": pa.array([2**62, -(2**62)], pa.timestamp("us"))},
    "dates out of range": lambda: {"label": pa.array([2**31 - 1, -(2**31)], pa.date32())},
    "durations": lambda: {"label": pa.array([2**62, -(2**62)], pa.duration("us"))},
    "times of an unknown zone": lambda: {"label": pa.array([0, 1], pa.timestamp("us", "Not/AZone"))},
    "bytes that are no text": lambda: {"label": pa.array([b"\xff\xfe", b"\0"], pa.binary())},
    "lists": lambda: {"label": pa.array([["a"], ["b"]])},
    "objects": lambda: {"label": pa.array([{"a": "b"}] * 2)},
    "ten million nulls in lists": lambda: {
        "label": pa.ListArray.from_arrays([0, 5_000_000, 10_000_000], pa.nulls(10_000_000))
    },
    "NaN and infinity": lambda: {"label": [float("nan"), float("inf")], "attribute": [float("-inf")] * 2},
    "wide numbers": lambda: {"label": pa.array([Decimal(10) ** 70, -(Decimal(10) ** 70)], pa.decimal256(76))},
    "a label of 40 MB, 2,000 times": lambda: {
        "label": pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 40_000_000]))
    },
    "cells of 20 MB of one width": lambda: {
        "label": pa.array([bytes(20_000_000)], pa.binary(20_000_000)).take(pa.array([0] * 10))
    },
    "text that is not UTF-8": lambda: {
        "label": pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"\xfe"]).buffers())
    },
    "nulls": lambda: {"label": pa.nulls(2), "attribute": pa.nulls(2)},
}


def _odd(columns: Callable[[], dict[str, Any]], place: Place) -> None:
    _metadata(place, **columns())


def _change(at: int, put_in: bytes, content: bytes) -> bytes:
    at %= len(content)
    return content[:at] + put_in + content[at + len(put_in) :]


def cases() -> Iterator[Case]:
    """All of this kind."""
    for number, (name, columns) in enumerate(_ODD.items()):
        words = (INSPECT, PLAN, INIT)[number % 3]
        yield Case("Parquet", f"metadata: {name}", partial(_odd, columns), words)
    for rows, groups in ((40_000_000, 1), (40_000_000, 40)):
        yield Case(
            "Parquet",
            f"{rows:,} equal rows in {groups} groups",
            partial(_equal_rows, rows, groups),
            PLAN,
            codes=refused(),
        )
    yield Case("Parquet", "40 million equal rows, inspected", partial(_equal_rows, 40_000_000, 40), codes=refused())
    yield Case(
        "Parquet",
        "40 million equal rows, a config of them",
        partial(_equal_rows, 40_000_000, 40),
        INIT,
        codes=refused(),
    )
    for words in (PLAN, INIT):
        yield Case("Parquet", f"as many equal rows as may be, {words[0]}", partial(_equal_rows, 100_000, 1), words)
    yield Case("Parquet", "40 cells of 40 MB of zeros", partial(_images, 40, 40_000_000))
    yield Case(
        "Parquet", "40 cells of 10 MB by a dictionary", partial(_images, 40, 10_000_000, dictionary=True), INGEST
    )
    yield Case("Parquet", "40 cells of 10 MB, not in a struct", partial(_images, 40, 10_000_000, in_struct=False))
    yield Case("Parquet", "40 cells of 10 MB beside nulls", partial(_images, 40, 10_000_000, nulls=2), PLAN)
    yield Case("Parquet", "a cell of 900 MB", partial(_images, 1, 900_000_000), codes=refused())
    yield Case(
        "Parquet",
        "10 million rows with an image of one byte",
        partial(_rows_of_images, 10_000_000),
        PLAN,
        codes=refused(),
    )
    for size, footer in ((20 << 30, 100), (20 << 30, 2**31 - 1), (20 << 30, 2**32 - 1), (3 << 30, 1 << 30)):
        for name in ("metadata.parquet", "train.parquet"):
            yield Case(
                "Parquet",
                f"{name}: {size >> 30} GB, a footer of {footer:,}",
                partial(_sparse, name, size, footer),
                codes=refused(),
            )
    for path in (
        "../outside/secret.png",
        "{outside}/secret.png",
        "file://{outside}/secret.png",
        "s3://b/x.png",
        "\x1b[2J",
    ):
        yield Case("Parquet", f"path {path!r} in a row", partial(_paths, path), INGEST)
    changes: dict[str, Callable[[bytes], bytes]] = {
        "cut in half": lambda content: content[: len(content) // 2],
        "without its end": lambda content: content[:-20],
        "a footer of 4 GB": partial(_change, -8, b"\xff\xff\xff\xff"),
        "a footer of zeros": lambda content: content[:-300] + bytes(292) + content[-8:],
        "pages of zeros": lambda content: content[:4] + bytes(3000) + content[3004:],
        "pages of ones": lambda content: content[:4] + b"\xff" * 200 + content[204:],
        "magic alone": lambda content: b"PAR1PAR1",
        "encrypted": lambda content: content[:-4] + b"PARE",
    }
    for name, change in changes.items():
        yield Case("Parquet", f"images: {name}", partial(_damaged, change))
    for at in (-200, -400, -600, -800, -1000, -1200):
        yield Case("Parquet", f"images: 0xff at {at}", partial(_damaged, partial(_change, at, b"\xff\xff\xff")))
    yield Case("Parquet", "3,000 columns", _wide)
    yield Case("Parquet", "lists 60 deep", _deep)
    yield Case("Parquet", "a deep description by Hugging Face", _huggingface)
    yield Case(
        "Parquet", "text by its name", partial(with_table, name="metadata.parquet", content="PAR1 and more"), INIT
    )
