"""What the pages say of starting on one machine."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.docs.measured.results import result, row

_TITLES = {
    "session, seconds": "Ray itself",
    "first pair of workers, seconds": "the first two workers",
    "next pair of workers, seconds": "the next two",
    "next pair of workers, processor seconds each": "the next two, processor seconds of each",
    "first job, seconds": "the first job of Ray Train, without work",
    "next job, seconds": "the next one",
}


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    rows = {one["what"]: one for one in result("startup")["rows"]}
    return {"docs/benchmarks.md": ["\n".join(line(title, rows[name]) for name, title in _TITLES.items())]}


def line(title: str, values: Mapping[str, float]) -> str:
    """A row of the table."""
    return row(title, *(f"{values[way]:.1f}" for way in ("as Ray starts", "ours")))
