"""What is tracked of finetune: each adapter's losses."""

from __future__ import annotations

from fairsynth.artifacts import Artifact
from fairsynth.stages.finetune.output import SHARED, is_adapter, read_adapter
from fairsynth.tracking.curves import Curve

_FACTS = ("prompt", "images", "learning_rate", "steps", "best_step", "rolled_back", "failed")


def curves(artifact: Artifact) -> list[Curve]:
    """A curve for every adapter, the one that all groups share included: training loss, and loss on held-out images."""
    units, found = artifact.units(), list[Curve]()
    for name in sorted(units.done()):
        if not is_adapter(name) and name != SHARED:
            continue
        facts = read_adapter(units[name])
        points = {"loss/training": facts.get("losses", ()), "loss/held out": facts["validation"]}
        told = {key: str(facts[key]) for key in _FACTS if facts.get(key) not in (None, "")}
        found.append(Curve(name.rstrip("="), {key: some for key, some in points.items() if some}, told))
    return found
