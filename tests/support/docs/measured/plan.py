"""What the pages say of the plan: the demo's estimate, and what large tables cost."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.docs.measured.results import result
from tests.support.docs.measured.text import said


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    rates = result("demo_rates")
    large = rates["plan of 10 million rows"]
    each = [f"{large[kind][figure]:g}" for kind in ("csv", "parquet") for figure in ("processor seconds", "peak MB")]
    return {
        "docs/plan.md": [
            said(
                "The demo's plan says {} minutes on two workers; the run that its rates are from took {} seconds",
                f"{rates['plan of the demo, min']:g}",
                f"{rates['whole run, s']:g}",
            ),
            said("10 million rows take {} s of processor time and {} MB as CSV, {} s and {} MB as Parquet", *each),
        ]
    }
