"""What the page on the benchmarks' history says: the lines of its file, in order of their dates."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping

from benchmarks.history import FIGURES
from tests.support.docs.measured.results import row
from tests.support.docs.pages import ROOT


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    found: dict[str, list[str]] = defaultdict(list)
    lines = [json.loads(line) for line in (ROOT / "benchmarks" / "results" / "history.jsonl").read_text().splitlines()]
    for line in sorted(lines, key=lambda line: str(line["date"])):
        value = f"{line['value']:,.{FIGURES[line['figure']].digits}f}"
        found[line["figure"]].append(row(line["date"], f"`{line['commit']}`", line["machine"], value))
    return {"docs/benchmarks-history.md": ["\n".join(rows) for rows in found.values()]}
