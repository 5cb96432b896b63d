"""What audit leaves: its figures as JSON, and the figures of copies for the cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fairsynth.artifacts import Artifact

RESULT = "audit.json"
# Accepted images of a group to look at, at most.
PER_GROUP = 2000


def read_audit(artifact: Artifact) -> dict[str, Any]:
    """The audit's result."""
    return json.loads((artifact.path / RESULT).read_text("utf-8"))  # type: ignore[no-any-return]


def privacy(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The figures of copies for the cards; None unless the detector has passed its self-test."""
    copies = result["copies"]
    if not copies["self_test"]["passed"]:
        return None
    return {
        "images looked at": copies["images"],
        "compared with": f"{copies['training']} of {copies['training_images']} training images",
        "copies of training images among them": copies["flagged"],
        "planted copies found": copies["self_test"]["detected"]["share"],
        "false alarms on real images": copies["self_test"]["false_alarms"]["share"],
    }
