"""What a bench leaves: the table for people and for programs, and the curve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from fairsynth.artifacts import write_json
from fairsynth.commands.bench.beside import beside, to_entries
from fairsynth.commands.bench.datasets import markdown_of_datasets
from fairsynth.commands.bench.published import Published
from fairsynth.commands.bench.rows import Failed, Measured, rows
from fairsynth.commands.bench.table import markdown
from fairsynth.commands.bench.values import to_csv, to_json
from fairsynth.config import RunConfig
from fairsynth.store.mirror import sent

FOLDER = "bench"


def write(
    root: Path, config: RunConfig, outcomes: Sequence[Measured | Failed], published: Sequence[Published] = ()
) -> None:
    """Write the table as far as it is known; each file is old or new, never half."""
    from fairsynth.commands.bench.picture import draw

    table, folder = rows(outcomes), root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    people = markdown_of_datasets(table) if len(config.bench.datasets) > 1 else markdown(table, published)
    for name, text in {"table.md": people, "table.csv": to_csv(table)}.items():
        partial = folder / f".{name}"
        partial.write_text(text, "utf-8")
        partial.replace(folder / name)
    facts = {
        "rows": to_json(table),
        "published": [p._asdict() for p in published],
        "config": json.loads(config.model_dump_json(exclude={"out", "resources"})),
        "beside": to_entries(beside(table)),
    }
    write_json(folder / "bench.json", facts)
    draw(table, folder / ".curve.png")
    shutil.move(folder / ".curve.png", folder / "curve.png")
    # Of a bucket's output bench.json, which others go by, comes last.
    for name in ("table.md", "table.csv", "curve.png", "bench.json"):
        sent(folder / name)
