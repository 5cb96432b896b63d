"""Tar shards: members that lead elsewhere, headers that lie, 600,000 members, texts that unpack."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.hostile.cases import INGEST, INSPECT, PLAN, Case, Place, an_image, refused, sparse
from tests.support.data.dataset_files import put

Member = tuple[tarfile.TarInfo, bytes]
_FIELDS = {"label": "cat", "attribute": "a", "split": "train"}


def _file(name: str, content: bytes = b"", **facts: Any) -> Member:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for key, value in facts.items():
        setattr(header, key, value)
    return header, content


def _sample(key: str, image: bytes | None = None, fields: object = _FIELDS) -> list[Member]:
    return [_file(f"{key}.png", image or an_image()), _file(f"{key}.json", json.dumps(fields).encode())]


def _tar(place: Place, members: Sequence[Member], name: str = "train-0000.tar") -> Path:
    place.data.mkdir(exist_ok=True)
    with tarfile.open(place.data / name, "w") as tar:
        for header, content in [*_sample("good"), *members]:
            tar.addfile(header, io.BytesIO(content))
    return place.data / name


def _named(name: str, place: Place) -> None:
    _tar(place, _sample(name.format(outside=place.outside)))


def _kind(kind: bytes, target: str, place: Place) -> None:
    _tar(place, [_file("odd.png", type=kind, linkname=target.format(outside=place.outside)), *_sample("odd")[1:]])


def _pax(headers: dict[str, str], place: Place) -> None:
    _tar(place, [_file("odd.png", an_image(), pax_headers=headers), *_sample("odd")[1:]])


def _many(n: int, suffix: str, place: Place) -> None:
    """Members without content: a header each."""
    header = bytearray(_file("aaaaaaaa" + suffix)[0].tobuf(tarfile.USTAR_FORMAT))
    with (place.data / "train.tar").open("wb") as file:
        for start in range(0, n, 10_000):
            block = bytearray()
            for number in range(start, min(n, start + 10_000)):
                header[:8] = b"%08d" % number
                header[148:156] = b" " * 8
                header[148:156] = b"%06o\0 " % sum(header)
                block += header
            file.write(block)
        file.write(bytes(1024))


def _text(content: bytes, ending: str, place: Place) -> None:
    _tar(place, [_file("odd.png", an_image()), _file(f"odd.{ending}", content)])


def _raw(content: bytes, place: Place) -> None:
    put(place.data / "train.tar", content)


def _claims(size: int, place: Place) -> None:
    """An image that says it has more bytes than the shard, which is sparse."""
    header = _file("odd.png")[0]
    header.size = size
    sparse(place.data / "train.tar", min(size, 20 << 30) + 4096, header.tobuf(tarfile.GNU_FORMAT))


def _zeros(place: Place) -> None:
    """A sparse shard with one image of 3 GB, and the text that belongs to it."""
    begin = _file("odd.json", b"{}")[0].tobuf() + json.dumps(_FIELDS).encode().ljust(512, b"\0")
    big = tarfile.TarInfo("odd.png")
    big.size = 3 << 30
    sparse(place.data / "train.tar", (3 << 30) + 4096, begin + big.tobuf())


def _headers_in_headers(place: Place) -> None:
    header = _file("x", type=tarfile.GNUTYPE_LONGNAME)[0].tobuf()
    put(place.data / "train.tar", header * 50_000 + bytes(1024))


def cases() -> Iterator[Case]:
    """All of this kind."""
    names = (
        "../odd",
        "../../outside/secret",
        "{outside}/secret",
        "a/../../odd",
        "\x1b[2Jodd",
        "a" * 5000,
        "/etc/passwd",
        "a\nb",
        "\u202eodd",
    )
    for name in names:
        yield Case("tar", f"member {name[:30]!r}", partial(_named, name), INGEST)
    kinds = {
        "a link": (tarfile.SYMTYPE, "{outside}/secret.png"), "a hard link": (tarfile.LNKTYPE, "{outside}/secret.png"),
        "a device": (tarfile.CHRTYPE, ""), "a pipe": (tarfile.FIFOTYPE, ""), "a sparse file": (tarfile.GNUTYPE_SPARSE, ""),
        "an unknown type": (b"Z", ""), "a folder named like an image": (tarfile.DIRTYPE, ""),
    }  # fmt: skip
    for name, (kind, target) in kinds.items():
        yield Case("tar", name, partial(_kind, kind, target))
    pax = {
        "a path that leaves": {"path": "../../outside/secret.png"}, "a size of 10^18": {"size": str(10**18)},
        "a negative size": {"size": "-5"}, "sparse by pax": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
        "text of 3 MB": {"comment": "x" * 3_000_000}, "a link path": {"linkpath": "/etc/passwd"},
        "times that are none": {"mtime": "nan", "ctime": "1e999"}, "an unknown charset": {"hdrcharset": "x" * 100},
    }  # fmt: skip
    for name, headers in pax.items():
        yield Case("tar", f"pax: {name}", partial(_pax, headers))
    yield Case("tar", "600,000 members, images", partial(_many, 600_000, ".png"), PLAN, codes=refused())
    yield Case("tar", "600,000 members, texts", partial(_many, 600_000, ".cls"), codes=refused())
    yield Case("tar", "600,000 members of no use", partial(_many, 600_000, ""), codes=refused())
    for size in (10 << 30, 8**11 - 1, 2**63, 2**80):
        yield Case("tar", f"a member that says {size:,} bytes", partial(_claims, size))
    yield Case("tar", "an image of 3 GB of zeros", _zeros, INGEST)
    texts = {
        "deep JSON": b"[" * 100_000,
        "JSON of 5 MB": b"[" + b"[]," * 1_600_000 + b"1]",
        "a long number": b"9" * 100_000,
    }
    for name, content in texts.items():
        yield Case("tar", name, partial(_text, content, "json"))
    yield Case("tar", "a label of a megabyte", partial(_text, b"\x1b[2Jx" * 200_000, "cls"))
    yield Case("tar", "a label of bytes", partial(_text, bytes(range(256)), "txt"))
    raw = {
        "gzip bomb": gzip.compress(bytes(5_000_000)), "zeros": bytes(100_000), "ones": b"\xff" * 100_000,
        "text": b"not a tar\n" * 1000, "empty": b"", "ZIP": b"PK\3\4" + bytes(1000),
    }  # fmt: skip
    for name, content in raw.items():
        yield Case("tar", name, partial(_raw, content), INSPECT)
    yield Case("tar", "headers of headers", _headers_in_headers)
    yield Case("tar", "20 GB of zeros", lambda place: sparse(place.data / "train.tar", 20 << 30))
