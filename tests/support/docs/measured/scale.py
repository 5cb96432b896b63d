"""What the pages say of more workers and of many small images."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.docs.measured.results import percent, result, row
from tests.support.docs.measured.text import said

_KINDS = {
    "embed": "embed: images are decoded ahead",
    "synthesize": "synthesize: files are written beside",
    "evaluate": "evaluate: few long trainings",
    "tune": "tune: trials on Ray Tune",
}
_SIDES = {"plain": "a plain loop, one process", "ingest": "ingest", "inspect": "`fairsynth inspect`"}


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    return {"docs/benchmarks.md": [_workers(), *_images()]}


def _workers() -> str:
    rows = {(one["kind"], one["workers"]): one for one in result("scale_workers")["workers"]}
    if not rows:
        return "\n".join(row(title, *["not measured"] * 6) for title in _KINDS.values())
    numbers = sorted({workers for _, workers in rows})
    lines = []
    for kind, title in _KINDS.items():
        shares = [percent(rows[kind, workers]["efficiency"], 0) for workers in numbers]
        starts = [f"{rows[kind, workers]['start, seconds, mean']:.0f} s" for workers in (numbers[0], numbers[-1])]
        lines.append(row(title, *shares, *starts))
    return "\n".join(lines)


def _images() -> list[str]:
    rows = {(one["images"], one["side"]): one for one in result("scale_workers")["images"]}
    few, many = sorted({images for images, _ in rows})
    lines = []
    for side, title in _SIDES.items():
        rates = {size: rows[size, side]["images/s of a core"] for size in (few, many)}
        beside = [
            f"{rates[size]:,.0f} ({rates[size] / rows[size, 'plain']['images/s of a core']:.2f})" for size in rates
        ]
        memory = [f"{rows[size, side]['driver, GB']:.2f} GB" for size in rates]
        lines.append(row(title, *beside, *memory, f"{rows[many, side]['peak_gb']:.2f} GB"))
    again = said("finds out in {} s that nothing is to do", f"{rows[many, 'ingest']['again']:.1f}")
    each = [(rows[many, side]["driver, GB"] - rows[few, side]["driver, GB"]) / (many - few) * 1e6 for side in _SIDES]
    growth = said("{} kB for each image in ingest, {} kB in inspect", *(f"{kb:.1f}" for kb in each[1:]))
    return ["\n".join(lines), again, growth]
