"""What a lease says of its owner, and whether an owner on this machine is still there."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fairsynth.errors import InfrastructureError
from fairsynth.escaping import printable

_LONGEST_SECONDS = 3600.0


@dataclass(frozen=True)
class Tenant:
    """The owner of a lease, or, without an id, its last one.

    ``since``: seconds since 1970 by its own clock, for people only. ``place`` and ``started``: which kernel and which space
    of process numbers ``pid`` belongs to, and when that process began, so that no other one is taken for it. ``epoch`` goes
    up whenever the lease changes hands, ``beat`` with every renewal. ``seconds``: how long it is valid without one.
    """

    id: str
    pid: int
    host: str
    since: float
    place: str
    started: int
    epoch: int
    beat: int
    seconds: float

    @property
    def token(self) -> str:
        """Which owner, and which time it holds the lease."""
        return f"{self.id}:{self.epoch}"

    @property
    def is_gone(self) -> bool:
        """It gave the lease back, or it was a process of this machine, and is no more."""
        return not self.id or (bool(self.place) and self.place == here() and started(self.pid) != self.started)

    def renewed(self) -> Tenant:
        """The next renewal."""
        return replace(self, beat=self.beat + 1)

    def gone(self) -> Tenant:
        """Nobody's; the epoch stays, so that the next one is higher."""
        return replace(self, id="", beat=self.beat + 1)

    def content(self) -> bytes:
        """As an object's content."""
        return json.dumps(asdict(self), indent=1).encode()

    def named(self) -> str:
        """For messages."""
        return f"process {self.pid} on {printable(self.host)[:100]} (for {max(0, time.time() - self.since):.0f} s)"

    @classmethod
    def parse(cls, content: bytes, name: str) -> Tenant:
        """From an object's content. Raises InfrastructureError if it is no lease; ``name`` is the object's."""
        try:
            found = json.loads(content[:10_000])
            tenant = cls(
                str(found["id"]), int(found["pid"]), str(found["host"]), float(found["since"]), str(found["place"]),
                int(found["started"]), int(found["epoch"]), int(found["beat"]), float(found["seconds"]),
            )  # fmt: skip
            if not 0 < tenant.seconds <= _LONGEST_SECONDS or tenant.epoch < 1 or not abs(tenant.since) < 1e12:
                raise ValueError("no lease has such values")
            return tenant
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise InfrastructureError(
                f"{name} is damaged and does not say whether a run works there; delete it if none does"
            ) from None


def here() -> str:
    """This boot of this machine, and this space of process numbers; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started(pid: int) -> int:
    """When a process began, in the kernel's ticks; 0 if there is none of that number, or only its remains."""
    try:
        # The name in parentheses may hold spaces and parentheses itself.
        fields = Path(f"/proc/{pid:d}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return 0 if fields[0] in ("Z", "X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0
