"""From the bytes of a table to text and to CSV rows: encodings by their marks, separators by the header."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from fairsynth.data.pointers import is_html
from fairsynth.data.storage import Storage
from fairsynth.data.tables.columns import present
from fairsynth.errors import DataError

# What may stand between the cells of a row. Of two that fit equally well the first is taken.
SEPARATORS = (",", ";", "\t", "|")
# A cell may be long: a caption, an embedding, a thumbnail. The library's own limit is 131,072 characters.
csv.field_size_limit(2**31 - 1)
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
_PIECE, _HEAD = 1 << 16, 1 << 26


@dataclass(frozen=True)
class Line:
    """A row of a CSV file, and the line in which it ends."""

    number: int
    values: list[str]


def read_text(storage: Storage, path: str) -> str:
    """The text of a file. Raises DataError as ``decoded`` does, and if it is missing."""
    return decoded(storage.name(path), storage.content(path))


def decoded(where: str, content: bytes) -> str:
    """Bytes as text: UTF-8, or UTF-16 or UTF-32 if a byte order mark says so.

    Raises DataError, with the first line that cannot be read, for anything else.
    """
    encoding = _encoding(where, content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DataError(
                f"{where} is not the {encoding.upper()} that its first bytes say; save it as UTF-8"
            ) from None
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{where} is not UTF-8 (line {line}); save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None


def _encoding(where: str, start: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
    # Read as UTF-8, western text in UTF-16 has a zero in every other place, and there alone.
    zeros = sorted(start[i:_LOOK:2].count(0) for i in (0, 1))
    if encoding == "utf-8" and not zeros[0] and 4 * zeros[1] > len(start[:_LOOK]):
        raise DataError(f"{where} is UTF-16 without a byte order mark; save it as UTF-8")
    return encoding


def csv_lines(where: str, text: str, wanted: Sequence[str] = ()) -> Iterator[Line]:
    """The rows of a CSV text, the header first, without empty lines.

    Cells are separated by comma, semicolon, tab or bar: by that which finds most of the wanted columns in the header, of
    equals the most columns; or by what Excel's first line ``sep=`` says. Strict about quotes: one that is never closed
    would otherwise swallow all lines after it. Raises DataError with the line.
    """
    rest, separator, skipped = _separated(text, wanted)
    lines = csv.reader(io.StringIO(rest, newline=""), delimiter=separator, strict=True)
    try:
        yield from (Line(lines.line_num + skipped, values) for values in lines if values)
    except csv.Error as error:
        raise DataError(f"{where}, line {lines.line_num + skipped}: not valid CSV: {error}") from None


def csv_header(storage: Storage, path: str, wanted: Sequence[str] = ()) -> list[str]:
    """The column names, from the start of a CSV file. Raises DataError as ``csv_lines`` does."""
    where = storage.name(path)
    return next((line.values for line in csv_lines(where, first_line(storage, path), wanted)), [])


def first_line(storage: Storage, path: str) -> str:
    """The first two lines and what was read beyond them; at most 64 MB. Raises DataError as ``decoded`` does."""
    pieces: list[str] = []
    lines = length = 0
    with storage.open(path) as handle:
        piece = handle.read(_PIECE)
        if is_html(piece):
            raise DataError(f"{storage.name(path)} is HTML text, not a table; get the file again")
        decoder = codecs.getincrementaldecoder(_encoding(storage.name(path), piece))()
        while piece and length < _HEAD:
            try:
                pieces.append(decoder.decode(piece))
            except UnicodeDecodeError:
                return read_text(storage, path)  # it says which line
            lines, length = lines + pieces[-1].count("\n"), length + len(piece)
            if lines > 1:  # the first may be Excel's
                break
            piece = handle.read(_PIECE)
    return "".join(pieces)


def _separated(text: str, wanted: Sequence[str]) -> tuple[str, str, int]:
    """The text without Excel's line, the separator, and how many lines were left out."""
    excel = _EXCEL.match(text)
    if excel:
        return text[excel.end() :], excel[1], 1
    fits, start = dict.fromkeys(SEPARATORS, (0, 0)), text[:_PIECE].lstrip("\r\n")
    for separator in SEPARATORS:
        with suppress(csv.Error):
            header = next(csv.reader(io.StringIO(start, newline=""), delimiter=separator), [])
            fits[separator] = len(present(header, wanted)), len(header)
    return text, max(fits, key=lambda separator: fits[separator]), 0
