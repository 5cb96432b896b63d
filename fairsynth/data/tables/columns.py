"""Columns by their names: exactly, or else by the same name in another spelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairsynth.config.suggest import did_you_mean
from fairsynth.config.values import spelled
from fairsynth.errors import DataError
from fairsynth.escaping import enumerated

_SHOWN = 30


def places(where: str, found: Sequence[str], needed: Sequence[str], way: str = "") -> dict[str, int]:
    """The place of each needed column among those found: by its name, else by its only other spelling.

    Raises DataError if a needed column is missing or there twice, with a guess at what was meant, and ``way``: what else
    there is to do.
    """
    return {column: _place(where, found, column, needed, way) for column in needed}


def _place(where: str, found: Sequence[str], column: str, needed: Sequence[str], way: str) -> int:
    exact = [place for place, name in enumerate(found) if name == column]
    if len(exact) > 1:
        raise DataError(f"{where} has the column {column!r} {len(exact)} times; keep one")
    alike = exact or [place for place, name in enumerate(found) if spelled(name) == spelled(column)]
    if len(alike) > 1:
        both = " and ".join(repr(found[place]) for place in alike)
        raise DataError(f"{where} has no column {column!r}, but {both}, which differ by spelling alone; keep one")
    if not alike:
        has = enumerated(found, most=_SHOWN) or "none"
        raise DataError(
            f"{where} has no column {column!r}{did_you_mean(column, found)}; it has: {has}; needed: {', '.join(dict.fromkeys(needed))}{way}"
        )
    return alike[0]


def present(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Those of the wanted columns that are there, in whatever spelling."""
    there = {spelled(name) for name in found}
    return [column for column in wanted if spelled(column) in there]


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """A row's value of a column, by the same rule; None where the row lacks it."""
    if column in row:
        return row[column]
    alike = [name for name in row if spelled(name) == spelled(column)]
    return row[alike[0]] if len(alike) == 1 else None
