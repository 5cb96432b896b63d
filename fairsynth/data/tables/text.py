"""From the bytes of a table to text and to CSV rows: encodings by their marks, separators by the header."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import IO

from fairsynth.data.pointers import is_html
from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import present
from fairsynth.errors import DataError

# What may stand between the cells of a row. Of two that fit equally well the first is taken.
SEPARATORS = (",", ";", "\t", "|")
# Of a table, and of a line in characters. A cell may be long: a caption, an embedding, a thumbnail.
MOST_BYTES, LONGEST_LINE = 8 << 30, 8 << 20
csv.field_size_limit(LONGEST_LINE)  # the library's own limit is 131,072 characters
# Longer marks first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EXCEL = re.compile(r"sep=([^\w\s\"']|\t)\r?\n")
_LOOK = 200
_PIECE = 1 << 16


@dataclass(frozen=True)
class Line:
    """A row of a CSV file, and the line in which it ends."""

    number: int
    values: list[str]


def text_lines(storage: Storage, path: str, newline: str = "\n") -> Generator[str]:
    """The lines of a text file with their ends, one by one: UTF-8, or UTF-16 or UTF-32 if a byte order mark says so.

    ``newline``: where a line ends, as for ``open``; empty for CSV. Raises DataError as ``Storage.open`` does, for a web page,
    for a file or a line beyond the limits, and for another encoding, with the first line that cannot be read.
    """
    where = storage.name(path)
    with storage.open(path) as handle:
        if handle.size() > MOST_BYTES:
            raise DataError(
                f"{where} has {handle.size():,} bytes; a table may have {MOST_BYTES:,}; split it, or get it again"
            )
        yield from lines_of(where, handle, newline)


def lines_of(where: str, handle: IO[bytes], newline: str = "\n") -> Iterator[str]:
    """The same of an open file; ``where``: its name, for messages."""
    number, start = 0, handle.read(_PIECE)
    if is_html(start):
        raise DataError(f"{where} is HTML text, not a table; get the file again")
    encoding = _encoding(where, start)
    handle.seek(0)
    text = io.TextIOWrapper(handle, encoding, newline=newline)
    try:
        while line := text.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise DataError(
                    f"{where}, line {number}: more than {LONGEST_LINE:,} characters; leave out what is no metadata, or get the file again"
                )
            yield line
    except UnicodeDecodeError as error:
        raise _not_text(where, encoding, number + 1 + error.object[: error.start].count(b"\n")) from None


def _not_text(where: str, encoding: str, line: int) -> DataError:
    if encoding != "utf-8":
        return DataError(f"{where} is not the {encoding.upper()} that its first bytes say; save it as UTF-8")
    return DataError(
        f"{where} is not UTF-8 (line {line}); save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
    )


def _encoding(where: str, start: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
    # Read as UTF-8, western text in UTF-16 has a zero in every other place, and there alone.
    zeros = sorted(start[i:_LOOK:2].count(0) for i in (0, 1))
    if encoding == "utf-8" and not zeros[0] and 4 * zeros[1] > len(start[:_LOOK]):
        raise DataError(f"{where} is UTF-16 without a byte order mark; save it as UTF-8")
    return encoding


def csv_lines(where: str, lines: Iterable[str], wanted: Sequence[str] = ()) -> Iterator[Line]:
    """The rows of the lines of a CSV text, the header first, without empty ones.

    Cells are separated by comma, semicolon, tab or bar: by that which finds most of the wanted columns in the header, of
    equals the most columns; or by what Excel's first line ``sep=`` says. Strict about quotes: one that is never closed
    would otherwise swallow all lines after it. Raises DataError with the line.
    """
    rest = iter(lines)
    head = _head(rest)
    excel = _EXCEL.match(head[0]) if head else None
    separator, skipped = (excel[1], 1) if excel else (_separator("".join(head), wanted), 0)
    rows = csv.reader(chain(head[skipped:], rest), delimiter=separator, strict=True)
    try:
        yield from (Line(rows.line_num + skipped, values) for values in rows if values)
    except csv.Error as error:
        raise DataError(f"{where}, line {rows.line_num + skipped}: not valid CSV: {error}") from None


def csv_header(storage: Storage, path: str, wanted: Sequence[str] = ()) -> list[str]:
    """The column names, from the start of a CSV file. Raises DataError as ``csv_lines`` does."""
    start = io.StringIO(first_line(storage, path), newline="")
    return next((line.values for line in csv_lines(storage.name(path), start, wanted)), [])


def first_line(storage: Storage, path: str) -> str:
    """The first lines, some 64 thousand characters of them: the first may be Excel's. Raises DataError as ``text_lines`` does."""
    lines = text_lines(storage, path, newline="")
    try:
        return "".join(_head(lines))
    finally:
        lines.close()


def _head(lines: Iterator[str]) -> list[str]:
    """The first lines, of 64 thousand characters or somewhat more; they are taken from ``lines``."""
    head, length = list[str](), 0
    for line in lines:
        head.append(line)
        length += len(line)
        if length > _PIECE:
            break
    return head


def _separator(text: str, wanted: Sequence[str]) -> str:
    """The separator that fits the start of a text best."""
    fits, start = dict.fromkeys(SEPARATORS, (0, 0)), text[:_PIECE].lstrip("\r\n")
    for separator in SEPARATORS:
        with suppress(csv.Error):
            header = next(csv.reader(io.StringIO(start, newline=""), delimiter=separator), [])
            fits[separator] = len(present(header, wanted)), len(header)
    return max(fits, key=lambda separator: fits[separator])
