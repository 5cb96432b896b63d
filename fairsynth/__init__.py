"""fairsynth: from a biased image dataset to a fair classifier and the balanced data behind it.

::

    import fairsynth as fs

    run = fs.run("demo", out="runs/demo")
    run = fs.open_run("runs/demo")

Importing this imports nothing else: each name is fetched from its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fairsynth.version import __version__

if TYPE_CHECKING:
    from fairsynth.api.adapters import AdapterKey, Adapters
    from fairsynth.api.classifier import Classifier, Prediction
    from fairsynth.api.images import ImageSet, RealImage, SyntheticImage
    from fairsynth.api.opened import Run, open_run
    from fairsynth.api.report import Figure, GroupAccuracy, MadeGroup, MethodResult, Report
    from fairsynth.api.running import run
    from fairsynth.config import RunConfig
    from fairsynth.errors import (
        BudgetReached,
        ConfigError,
        DamagedError,
        DataError,
        DivergedError,
        Exhausted,
        FairsynthError,
        InfrastructureError,
        OutputLockedError,
        TakenOverError,
    )
    from fairsynth.groups import Group

__all__ = [
    "AdapterKey",
    "Adapters",
    "BudgetReached",
    "Classifier",
    "ConfigError",
    "DamagedError",
    "DataError",
    "DivergedError",
    "Exhausted",
    "FairsynthError",
    "Figure",
    "Group",
    "GroupAccuracy",
    "ImageSet",
    "InfrastructureError",
    "MadeGroup",
    "MethodResult",
    "OutputLockedError",
    "Prediction",
    "RealImage",
    "Report",
    "Run",
    "RunConfig",
    "SyntheticImage",
    "TakenOverError",
    "__version__",
    "open_run",
    "run",
]
_PLACES = {
    "fairsynth.api.adapters": ("AdapterKey", "Adapters"),
    "fairsynth.api.classifier": ("Classifier", "Prediction"),
    "fairsynth.api.images": ("ImageSet", "RealImage", "SyntheticImage"),
    "fairsynth.api.opened": ("Run", "open_run"),
    "fairsynth.api.report": ("Figure", "GroupAccuracy", "MadeGroup", "MethodResult", "Report"),
    "fairsynth.api.running": ("run",),
    "fairsynth.config": ("RunConfig",),
    "fairsynth.groups": ("Group",),
}


if not TYPE_CHECKING:  # for type checkers the names above are all that there are

    def __getattr__(name: str) -> Any:
        """Fetch a public name from its module. Raises AttributeError, with a guess at what was meant."""
        if name in __all__:
            place = next((module for module, names in _PLACES.items() if name in names), "fairsynth.errors")
            value = globals()[name] = getattr(import_module(place), name)
            return value
        from difflib import get_close_matches

        near = [] if name.startswith("_") else get_close_matches(name, __all__, 1)
        raise AttributeError(
            f"module 'fairsynth' has no attribute {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)
