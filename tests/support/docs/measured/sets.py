"""What the pages say of synthetic sets as the bias grows."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.docs.measured.results import percent, result, row
from tests.support.docs.measured.text import said


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    found = result("synthetic_sets")
    lines = [
        row(
            f"{100 * one['severity']:g} %",
            one["group"].strip("()"),
            str(one["real"]),
            one["way"],
            f"{one['accepted']} of {one['quota']}",
            str(one["made"]),
            *(
                percent(share)
                for share in (one["all"]["both"], one["kept"]["both"], found["prompts"][one["group"]]["both"])
            ),
        )
        for one in found["groups"]
    ]
    judges = found["machine"]["judges right on real test images"]
    return {
        "docs/benchmarks.md": [
            "\n".join(lines),
            said(
                "are right on {} and {} of the test images.", percent(judges["label"]), percent(judges["attribute"], 0)
            ),
        ]
    }
