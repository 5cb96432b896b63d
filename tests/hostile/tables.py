"""Metadata tables as text, and what a reader of text can trip over."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from functools import partial

from tests.hostile.cases import HEADER, INIT, INSPECT, PLAN, Case, Place, refused, sparse, with_table

_GIB = 1 << 30
_CSV: dict[str, Callable[[], bytes]] = {
    "one quote that is never closed": lambda: b'file_name,split,label,attribute\n"' + b"a,b\n" * 300_000,
    "a cell of 30 MB": lambda: HEADER.encode() + b"a" * 30_000_000 + b",train,cat,indoor\n",
    "a cell of 30 MB in quotes, many lines": lambda: (
        HEADER.encode() + b'"' + b"a\n" * 15_000_000 + b'",train,cat,indoor\n'
    ),
    "a header of 300,000 columns": lambda: b",".join(b"c%d" % i for i in range(300_000)) + b"\n",
    "five million empty cells": lambda: HEADER.encode() + b"," * 5_000_000 + b"\n",
    "a million empty lines": lambda: HEADER.encode() + b"\n" * 1_000_000 + b"x.png,train,cat,indoor\n",
    "NUL bytes": lambda: HEADER.encode() + b"\0" * 100_000,
    "carriage returns alone": lambda: HEADER.encode().replace(b"\n", b"\r") * 100_000,
    "UTF-16 that says it is": lambda: b"\xff\xfe" + b"\xd8" * 10_001,
    "UTF-32 that says it is": lambda: b"\xff\xfe\0\0" + b"\xff" * 1001,
    "random bytes": lambda: bytes((i * i * 31 + i) % 256 for i in range(50_000)),
    "gzip by another name": lambda: gzip.compress(b"file_name,label\n" + bytes(5_000_000)),
    "a web page": lambda: b"<!DOCTYPE html><html>" + b"a" * 1000,
    "Excel's first line, odd": lambda: b"sep=\x1b\n" + HEADER.encode(),
    "empty": lambda: b"",
    "a byte order mark alone": lambda: b"\xef\xbb\xbf",
    "the same columns twice": lambda: b"file_name,file_name,label,label,split,attribute\nx,y,a,b,train,c\n",
    "a number of 100,000 digits": lambda: HEADER.encode() + b"x.png,train," + b"9" * 100_000 + b",indoor\n",
}
_JSON: dict[str, Callable[[], bytes]] = {
    "nesting of 200,000": lambda: b"[" * 200_000,
    "objects nested 50,000 deep": lambda: b'{"file_name":' * 50_000,
    "a number of 100,000 digits": lambda: b'{"file_name": "x.png", "label": ' + b"9" * 100_000 + b"}\n",
    "NaN and infinity": lambda: b'{"file_name": "x.png", "label": NaN, "attribute": -Infinity, "split": 1e999}\n',
    "ten million small lists": lambda: b'{"file_name": [' + b"[]," * 10_000_000 + b"[]]}\n",
    "halves of a pair": lambda: (
        b'{"file_name": "\\ud800.png", "label": "\\udc00", "attribute": "a", "split": "train"}\n'
    ),
    "keys twice": lambda: b'{"file_name": "x.png", "file_name": "y.png", "label": "a", "attribute": "b"}\n',
    "no objects": lambda: b'1\n[]\n"x"\nnull\n',
    "NUL in the name": lambda: b'{"file_name": "x\\u0000.png", "label": "a", "attribute": "b", "split": "train"}\n',
    "steering": lambda: (
        b'{"file_name": "\\u001b[2J.png", "label": "\\u202ea", "attribute": "b", "split": "\\u001b]0;x\\u0007"}\n'
    ),
    "one line of 40 MB": lambda: b'{"file_name": "' + b"a" * 40_000_000 + b'"}',
    "300,000 keys": lambda: b"{" + b",".join(b'"k%d": 1' % i for i in range(300_000)) + b"}\n",
}


def _table(name: str, content: Callable[[], bytes], place: Place) -> None:
    with_table(place, name, content())


def _sparse(name: str, size: int, start: bytes, place: Place) -> None:
    with_table(place, name, b"")
    sparse(place.data / name, size, start)


def _two_sizes(place: Place) -> None:
    """Both kinds of table, one of them large."""
    with_table(place, "train/metadata.jsonl", b'{"file_name": "a.png"}\n')
    sparse(place.data / "val" / "metadata.csv", 20 * _GIB)


def cases() -> Iterator[Case]:
    """All of this kind."""
    for number, (name, content) in enumerate(_CSV.items()):
        words = (INSPECT, PLAN, INIT)[number % 3]
        yield Case("CSV", name, partial(_table, "metadata.csv", content), words)
    for number, (name, content) in enumerate(_JSON.items()):
        words = (INSPECT, PLAN, INIT)[number % 3]
        yield Case("JSON lines", name, partial(_table, "metadata.jsonl", content), words)
    for start, what in ((b"", "zeros"), (HEADER.encode(), "a header and zeros")):
        for name in ("metadata.csv", "metadata.jsonl", "metadata.tsv"):
            make = partial(_sparse, name, 20 * _GIB, start if name != "metadata.jsonl" else b"{")
            kind = "JSON lines" if name.endswith("jsonl") else "CSV"
            yield Case(kind, f"{name}: 20 GB of {what}", make, PLAN if start else INSPECT, codes=refused())
    yield Case("CSV", "3 GB of zeros behind rows", partial(_sparse, "metadata.csv", 3 * _GIB, HEADER.encode()), INIT)
    yield Case("CSV", "a large one in a split's folder", _two_sizes, codes=refused())
    yield Case("CSV", "CelebA's list of 20 GB", _celeba, PLAN, codes=refused())
    yield Case("CSV", "CelebA's list of one long line", _celeba_line, PLAN, codes=refused())


def _celeba(place: Place) -> None:
    sparse(place.data / "list_attr_celeba.txt", 20 * _GIB, b"3\nBlond_Hair Male\n")
    sparse(place.data / "list_eval_partition.txt", 20 * _GIB, b"000001.jpg 0\n")


def _celeba_line(place: Place) -> None:
    sparse(place.data / "list_attr_celeba.csv", 2 * _GIB, b"image_id,Blond_Hair,Male\n")
    sparse(place.data / "list_eval_partition.csv", 1 * _GIB, b"image_id,partition\n")
