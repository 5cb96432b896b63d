"""What the pages say of strikes on whole runs, and of hostile inputs."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.docs.measured.results import result, row

# Title on the page, and what tests/chaos counts under that name.
_COUNTED = {
    "whole runs, all of which ended": "whole runs",
    "strikes": "strikes",
    "calls of the command": "calls of the command",
    "units lost": "units lost",
    "units made twice": "units made twice",
    "files that differ from the undisturbed run": "files that differ from the undisturbed run",
    "units begun again": "units begun again",
    "allowed, one per worker and kill": "units begun again that are allowed (one per worker and kill)",
    "calls that hung": "calls that hung",
    "calls that left processes": "calls that left processes",
    "calls with an unexpected exit code, or a traceback": "",
}
_WRONG = ("unexpected exit codes", "calls that said internal error or showed a traceback")
PLACES = ("disk", "nodes", "bucket")


def sayings() -> Mapping[str, list[str]]:
    """By page, what it says."""
    return {"docs/architecture.md": table(), "docs/security.md": hostile()}


def table() -> list[str]:
    """The rows of the table of strikes."""
    places = [result("chaos")["places"][name] for name in PLACES]
    assert all(place["whole runs"] == place["of them finished"] for place in places)
    return [
        row(title, *(str(place[name] if name else max(place[wrong] for wrong in _WRONG)) for place in places))
        for title, name in _COUNTED.items()
    ]


def hostile() -> list[str]:
    """The rows of the table of hostile inputs."""
    kinds = result("hostile")["kinds"]
    assert all(kind["inputs"] == kind["as wanted"] for kind in kinds.values())
    return [
        row(
            "all of them" if name == "all" else name,
            *(str(kind[key]) for key in ("inputs", "as wanted")),
            f"{kind['CPU seconds, most']:.1f} s",
            f"{kind['MB, most']} MB",
        )
        for name, kind in kinds.items()
    ]


if __name__ == "__main__":
    print("\n".join(table()))
