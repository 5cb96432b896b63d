"""The command doctor: its checks in order, those that take long last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairsynth.commands.doctor.bucket import bucket_check
from fairsynth.commands.doctor.check import Check
from fairsynth.commands.doctor.cluster import address_checks, cluster_checks
from fairsynth.commands.doctor.machine import gpus_here, machine_checks
from fairsynth.commands.doctor.models import model_checks
from fairsynth.commands.doctor.packages import package_checks, torch_cuda, versions
from fairsynth.commands.doctor.storage import dataset_check, output_checks, space_check
from fairsynth.config import RunConfig
from fairsynth.escaping import printable, shortened
from fairsynth.store.address import Address

SCHEMA = 1


def examine(config: RunConfig, root: Path | Address, about_a_run: bool, with_cluster: bool) -> Iterator[Check | str]:
    """Every check as it is done, and, before one that takes long, what is looked at.

    ``root``: the output, a folder or an address in a bucket. ``about_a_run``: the config is that of a run, so its models and its dataset are looked at.
    """
    yield from package_checks(versions())
    yield from machine_checks(config, gpus_here(), torch_cuda())
    if isinstance(root, Path):
        yield from output_checks(root)
        yield space_check(config, root)
    else:
        yield bucket_check(root)
    if about_a_run:
        yield dataset_check(config)
        yield "models ..."
        yield from model_checks(config)
    refused = False
    for check in address_checks():
        refused |= check.status == "failed"
        yield check
    if with_cluster and not refused:
        yield "Ray: it is started or joined, which takes up to two minutes (--no-cluster leaves it out) ..."
        yield from cluster_checks(config, root, about_a_run)


def line(check: Check) -> str:
    """For a terminal; what to do has a line of its own."""
    text = shortened(f"{check.status:<8} {check.name:<25} {printable(check.found)}")
    return text + (shortened(f"\n{'':<8} {'to do':<25} {printable(check.do)}") if check.do else "")


def as_json(checks: list[Check]) -> dict[str, Any]:
    """The checks for JSON; ``failed``: whether one of them failed."""
    failed = any(check.status == "failed" for check in checks)
    return {"schema": SCHEMA, "failed": failed, "checks": [check._asdict() for check in checks]}


def summary(checks: list[Check]) -> str:
    """How many of each, in a line."""
    counts = {status: sum(check.status == status for check in checks) for status in ("ok", "warning", "failed")}
    warnings = f"{counts['warning']} warning{'' if counts['warning'] == 1 else 's'}"
    return f"{counts['ok']} ok, {warnings}, {counts['failed']} failed"
