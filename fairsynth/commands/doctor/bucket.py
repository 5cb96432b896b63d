"""The output in a bucket: what a run does there is tried, and nothing is left."""

from __future__ import annotations

from fairsynth.commands.doctor.check import Check, one_line, within
from fairsynth.errors import FairsynthError
from fairsynth.store.address import Address
from fairsynth.store.lease import owner
from fairsynth.store.mirror import require_cache
from fairsynth.store.objects import Objects

_ANSWER_SECONDS = 60.0
_PATIENCE = 15.0


def bucket_check(address: Address) -> Check:
    """Objects can be listed, read, written, written on a condition, and deleted; and no run is there."""
    objects = Objects(address, _PATIENCE)
    try:
        require_cache(make=False)
        within(_ANSWER_SECONDS, objects.probe)
        there = owner(objects)
    except (FairsynthError, TimeoutError) as error:
        found, _, do = one_line(error).partition("; ")
        return Check("output bucket", "failed", found, do or "check the network, and the address")
    if there is not None and there.alive is not False:
        found = f"{address} is in use by process {there.pid} on {there.host}, unless that was killed"
        return Check("output bucket", "warning", found, "wait for it, or choose another with --out")
    found = f"objects can be listed, read, written, written on a condition, and deleted in {address}"
    return Check("output bucket", "ok", found)
