"""Which losses need more of a batch than its features."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fairsynth.classify.batch_loss import BatchLoss, Parts
from fairsynth.classify.failure import Failure
from fairsynth.classify.mixing import Selective

_SPECIAL: Mapping[str, Callable[[Parts], BatchLoss]] = {"lisa": Selective, "lff": Failure}


def special_loss(loss: str, parts: Parts) -> BatchLoss | None:
    """A phase's loss of that name if it is special."""
    return _SPECIAL[loss](parts) if loss in _SPECIAL else None
