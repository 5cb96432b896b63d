"""The errors that fairsynth raises on purpose, with the exit code of each.

::

    FairsynthError          1  internal error
    ├── ConfigError         2  config or usage
    ├── DataError           3  data refused
    │   └── DivergedError
    ├── BudgetReached       4  a limit of the command line; the same command goes on
    ├── InfrastructureError 5  infrastructure, worth a retry
    │   ├── DamagedError       what was read is not what was written; it is made anew
    │   └── Exhausted
    └── OutputLockedError   6  output folder in use by another run
        └── TakenOverError     another run took it over while this one could not be seen

Each carries one message for people: what was given, what is allowed, what to type next.
They take a single string, so that they pass between processes unharmed.
"""

from __future__ import annotations

import re


class FairsynthError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class ConfigError(FairsynthError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class DataError(FairsynthError):
    """The dataset cannot be used as it is."""

    exit_code = 3


class DivergedError(DataError):
    """A classifier's training came to values that are no numbers; nothing can be learnt after them."""


class BudgetReached(FairsynthError):
    """The run has used what it was allowed to; finished work is kept, and the same command goes on."""

    exit_code = 4


class InfrastructureError(FairsynthError):
    """The cluster, a worker or the storage failed; the same command may succeed later."""

    exit_code = 5


class DamagedError(InfrastructureError):
    """A file of a stage's result is missing or is not what was written; the run makes it anew."""

    @classmethod
    def of(cls, what: str, file: str) -> DamagedError:
        """``what``: the artifact's folder, or ``<artifact>/units/<unit>``; ``file``: a path in there."""
        return cls(f"damaged: {what}: {file} is not what was written (its hash differs, or it is missing)")

    @property
    def place(self) -> tuple[str, str, str]:
        """The artifact's folder, the unit in it (empty: not in a unit), and the file, by names."""
        found = re.search(r"damaged: ([^:]+): (.+?) is not what was written", str(self))
        what, file = (found[1], found[2]) if found else ("", "")
        artifact, _, unit = what.partition("/units/")
        return artifact, unit, file


class Exhausted(InfrastructureError):
    """A disk, its quota or memory has run out; the same command goes on once there is more."""


class OutputLockedError(FairsynthError):
    """Another run is writing to the same output folder."""

    exit_code = 6


class TakenOverError(OutputLockedError):
    """Another run has taken over the output of this one, which may write nothing more."""
