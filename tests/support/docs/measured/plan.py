"""What the pages say of the plan: the demo's estimate, and what large tables cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from tests.support.docs.measured.results import result
from tests.support.docs.measured.text import said
from tests.support.docs.pages import ROOT

NETWORKS = {
    "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3.5 medium",
    "flux2": "FLUX.2 [klein] 4B",
    "zimage": "Z-Image",
}


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    rates = result("demo_rates")
    large = rates["plan of 10 million rows"]
    each = [f"{large[kind][figure]:g}" for kind in ("csv", "parquet") for figure in ("processor seconds", "peak MB")]
    return {
        "docs/plan.md": [
            said(
                "The demo's plan says {} minutes on two workers; the run that its rates are from took {} seconds",
                f"{rates['plan of the demo, min']:.1f}",
                f"{rates['whole run, s']:g}",
            ),
            said("10 million rows take {} s of processor time and {} MB as CSV, {} s and {} MB as Parquet", *each),
        ],
        "docs/base-models.md": [*_networks()],
    }


def _networks() -> Iterator[str]:
    """The rows on what a pass of a network costs: the plan's, which are counted again in tests/commands/plan/test_families.py."""
    known = json.loads((ROOT / "fairsynth" / "commands" / "plan" / "rates.json").read_text("utf-8"))
    usual = known["sets"]["sd15"]
    yield said("| Stable Diffusion 1.5 | {} | {} | | 1 | {} |", *_ends(usual["bytes"], f"{usual['tflop']:.3f}"))
    for name, title in NETWORKS.items():
        work = known["families"][name]["tflop"]
        figures = [f"{work['512']:.3g}", f"{work['1024']:.3g}", f"{work['1024'] / usual['tflop']:.1f}"]
        yield said(
            f"| {title} | {{}} | {{}} | {{}} | {{}} | {{}} |", *_ends(known["families"][name]["bytes"], *figures)
        )


def _ends(sizes: Mapping[str, float], *between: str) -> list[str]:
    """Parameters in billions, what stands between, and the megabytes of an adapter of rank 16."""
    return [f"{sizes['full_unet'] / 4e9:.2f}", *between, f"{16 * sizes['adapter_per_rank'] / 1e6:.0f}"]
