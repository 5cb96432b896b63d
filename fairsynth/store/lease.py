"""One run at a time in a bucket: an object that says who, renewed for as long as the run lives.

A bucket has no lock that dies with its owner. So the owner renews its lease by compare-and-swap, and another run takes over
once it has seen no renewal for the lease's validity, by its own monotonic clock: no two hosts' clocks are compared. An
owner that was away meanwhile (a paused machine, a cut network) finds the lease changed, and may not commit: whoever
commits asks its ``Fence`` right before (fencing, as in M. Kleppmann, How to do distributed locking, 2016).
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache

from fairsynth.errors import FairsynthError, InfrastructureError, OutputLockedError, TakenOverError
from fairsynth.store.objects import Objects
from fairsynth.store.owner import Owner
from fairsynth.store.tenant import Tenant, here, started

KEY = "lease.json"
SECONDS = 30.0
# A renewal is due at a third of the validity, and is given up in time for another try; the clock's margin is a tenth.
_RENEWALS, _MARGIN = 3, 0.1
# Seconds that what a fence has read is believed. Never more than a tenth of the validity, which is less than its margin.
_BELIEVED = 1.0
# Seconds: no record makes another run wait for longer.
_LONGEST_WAIT = 300.0
# Seconds to give a lease back in; otherwise it runs out by itself.
_LEAVE = 3.0
# Versions of leases that this process has seen unchanged for their time: nobody lives in them, and one need not wait again.
_ABANDONED = set[tuple[str, str, str]]()


@dataclass(frozen=True)
class Fence:
    """Whether a run still owns an output: goes along to workers, who ask before each commit. ``token``: owner and epoch."""

    uri: str
    token: str
    key: str = KEY
    seconds: float = SECONDS

    def check(self, objects: Objects | None = None) -> None:
        """Raises TakenOverError: another run owns the output now; InfrastructureError: the store does not say.

        ``objects``: a client that asks with another patience.
        """
        memory = _memory(self.uri)
        asked = _clock()
        if asked - memory.seen.get(self.token, float("-inf")) < min(_BELIEVED, self.seconds * _MARGIN):
            return
        found = (objects or memory.objects).read(self.key)
        tenant = None if found is None else Tenant.parse(found, memory.objects.name(self.key))
        if tenant is None or tenant.token != self.token:
            memory.seen.pop(self.token, None)
            raise _taken_over(memory.objects, tenant)
        memory.seen[self.token] = asked


@dataclass
class _Memory:
    """What this process knows of an output: its client, and when each token was last seen in the lease."""

    objects: Objects
    seen: dict[str, float] = field(default_factory=dict)


@lru_cache(maxsize=64)
def _memory(uri: str) -> _Memory:
    return _Memory(Objects.at(uri))


class Lease:
    """A run's hold on an output. ``seconds``: how long it is valid without a renewal; ``say``: told why one waits."""

    def __init__(
        self,
        objects: Objects,
        key: str = KEY,
        seconds: float = SECONDS,
        say: Callable[[str], None] | None = None,
    ) -> None:
        # A request that hangs must not take the time of the next ones.
        self._objects = Objects(objects.address, min(objects.patience, seconds / (2 * _RENEWALS)))
        self._patient, self._key, self._seconds, self._say = objects, key, seconds, say
        self._tenant: Tenant | None = None
        self._version = ""
        self._lost: TakenOverError | None = None
        self._ended = threading.Event()

    @property
    def fence(self) -> Fence:
        """For workers. Raises InfrastructureError while the lease is not held."""
        if self._tenant is None:
            raise InfrastructureError(f"the lease of {self._objects.address} is not held; begin the run anew")
        return Fence(self._objects.uri, self._tenant.token, self._key, self._seconds)

    @property
    def token(self) -> str:
        """Owner and epoch: no other run has the same."""
        return self.fence.token

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """Hold the output; it is free again at the end, however that comes, and after a kill once its time is over.

        Raises OutputLockedError: another run has it, which takes up to a third of its validity to see; ConfigError: the
        store cannot tell two writers apart; InfrastructureError: it does not answer.
        """
        self._patient.probe()
        self._take()
        renewing = threading.Thread(target=self._renew, name="lease", daemon=True)
        renewing.start()
        try:
            yield self
        finally:
            self._ended.set()
            renewing.join(self._seconds * _MARGIN)  # one that hangs shall not keep who pressed Ctrl-C waiting
            self._release(Objects(self._objects.address, min(_LEAVE, self._objects.patience)))

    def _take(self) -> None:
        while True:
            found = _free(self._patient, self._key, self._say)
            mine = Tenant(
                secrets.token_hex(8), os.getpid(), socket.gethostname(), time.time(), here(), started(os.getpid()),
                1 if found is None else found[0].epoch + 1, 0, self._seconds,
            )  # fmt: skip
            if found is None:
                created = self._patient.create(self._key, mine.content())
                version = self._patient.read_versioned(self._key) if created else None
                taken = version[1] if version and version[0] == mine.content() else None
            else:
                taken = self._patient.swap(self._key, mine.content(), found[1])
            if taken is not None:
                self._tenant, self._version, self._lost = mine, taken, None
                self._ended.clear()
                return

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / _RENEWALS):
            assert self._tenant is not None
            following = self._tenant.renewed()
            try:
                version = self._objects.swap(self._key, following.content(), self._version)
                if version is None:
                    self._look()
                    if self._lost is not None:
                        return
                else:
                    self._tenant, self._version = following, version
            except FairsynthError:
                continue  # it is tried again; what that means for the run is its fence's to say

    def _look(self) -> None:
        """Whose the lease is, after a renewal was refused: an earlier one may have arrived without its answer."""
        found = self._objects.read_versioned(self._key)
        tenant = None if found is None else Tenant.parse(found[0], self._objects.name(self._key))
        if found is not None and tenant is not None and tenant.token == self.token:
            self._tenant, self._version = tenant, found[1]
        else:
            self._lost = _taken_over(self._objects, tenant)

    def _release(self, objects: Objects) -> None:
        with suppress(FairsynthError):
            if self._tenant is not None and self._lost is None:
                free = self._tenant.gone().content()
                if objects.swap(self._key, free, self._version) is None:  # a renewal arrived in between
                    self._look()
                    if self._lost is None:
                        objects.swap(self._key, self._tenant.gone().content(), self._version)
        self._tenant = None


def _free(objects: Objects, key: str, say: Callable[[str], None] | None = None) -> tuple[Tenant, str] | None:
    """The lease and its version once nobody lives in it; None if there has never been one.

    Raises OutputLockedError: it was renewed while this looked.
    """
    first: tuple[Tenant, str] | None = None
    since = 0.0
    while True:
        found = objects.read_versioned(key)
        if found is None:
            return None
        tenant, version = Tenant.parse(found[0], objects.name(key)), found[1]
        known = objects.uri, key, version
        if tenant.is_gone or known in _ABANDONED:
            return tenant, version
        if first is None:
            first, since = (tenant, version), time.monotonic()
            if say is not None:
                say(
                    f"{objects.address} was last used by {tenant.named()}; waiting for at most "
                    f"{min(tenant.seconds, _LONGEST_WAIT):.0f} s to see whether that run is alive"
                )
        elif version != first[1]:
            raise _locked(objects, tenant)
        elif time.monotonic() - since > min(tenant.seconds, _LONGEST_WAIT):
            _ABANDONED.add(known)
            return tenant, version
        time.sleep(min(1.0, tenant.seconds / 20))


def owner(objects: Objects, key: str = KEY) -> Owner | None:
    """Who named itself in the lease, without taking it; None if nobody did. A run that was killed leaves its name."""
    found = objects.read(key)
    tenant = None if found is None else Tenant.parse(found, objects.name(key))
    return None if tenant is None or not tenant.id else Owner(tenant.pid, tenant.host, tenant.since)


def check_free(objects: Objects, key: str = KEY, say: Callable[[str], None] | None = None) -> None:
    """Raise OutputLockedError, as ``Lease.held`` does, if a run holds the output now; nothing is written. ``say``: told why
    one waits.

    A run on another machine is seen alive by its next renewal: this takes up to a third of its validity, and all of it
    after a kill.
    """
    _free(objects, key, say)


def _locked(objects: Objects, tenant: Tenant) -> OutputLockedError:
    return OutputLockedError(
        f"the output {objects.address} is in use by {tenant.named()}; wait for it, or choose another with --out"
    )


def _taken_over(objects: Objects, tenant: Tenant | None) -> TakenOverError:
    if tenant is None or not tenant.id:
        what = f"the lease of {objects.address} was given up or removed by somebody else"
    else:
        what = f"another run has taken over {objects.address}: {tenant.named()}"
    return TakenOverError(f"{what}; this one ends, and what it had finished is kept")


def _clock() -> float:
    """Seconds, counted while the machine sleeps, too, where the system can."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
