"""What each node of a cluster is asked: it runs there, in a worker, and answers in plain values."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairsynth.commands.doctor.check import Check, one_line
from fairsynth.commands.doctor.machine import gpus_here
from fairsynth.commands.doctor.models import model_checks, sources
from fairsynth.commands.doctor.packages import EQUAL, versions
from fairsynth.commands.doctor.probe import leave, note, notes
from fairsynth.config import RunConfig
from fairsynth.engine.each_node import Answer
from fairsynth.errors import FairsynthError
from fairsynth.store.address import is_bucket

_MOST_SKEW = 5.0  # seconds, beyond what the question took on its way


def look(settings: Mapping[str, Any], probe: str, token: str, with_models: bool) -> dict[str, Any]:
    """Versions, clock, GPUs, and what of the output folder, the dataset and the models can be seen from here."""
    config = RunConfig.model_validate(settings)
    seen = {
        "host": socket.gethostname(),
        "time": time.time(),
        "versions": {name: version for name, version in versions().items() if name in EQUAL},
        "gpus": [gpu.name for gpu in gpus_here()],
        "output": _passed_on(probe, token),
        "dataset": _dataset(config),
        "models": [tuple(check) for check in model_checks(config, ask_hub=False)] if with_models else [],
    }
    return seen


def _passed_on(probe: str, token: str) -> str:
    """Read the driver's token and leave it again under this node's name; returns what went wrong."""
    try:
        if note(probe, "token") != token:
            return "another file than the driver's is there"
        leave(probe, f"seen-{socket.gethostname()}-{os.getpid()}", token)
    except (OSError, FairsynthError) as error:
        return one_line(error)
    return ""


def _dataset(config: RunConfig) -> bool:
    root = config.data.root
    return config.data.format == "demo" or not root or "://" in root or Path(root).expanduser().is_dir()


def node_checks(config: RunConfig, answers: Sequence[Answer], probe: str | Path) -> Iterator[Check]:
    """What the nodes' answers mean for a run."""
    silent = [(answer.node, answer.failure) for answer in answers if answer.failure]
    if silent:
        node, why = silent[0]
        do = (
            "install fairsynth on every node, or send it along: ray job submit --working-dir . -- python -m jobs.pipeline"
            if "ModuleNotFoundError" in why or "No module named" in why
            else "look at that node (ray status), or take it out of the cluster"
        )
        yield Check("workers", "failed", f"{len(silent)} of {len(answers)} nodes did not answer; {node}: {why}", do)
    seen = [(answer, answer.result) for answer in answers if answer.result is not None]
    if not seen:
        return
    if not silent:
        yield Check("workers", "ok", f"{len(seen)} of {len(answers)} nodes answer")
    yield _equal([found["versions"] | {"host": found["host"]} for _, found in seen])
    yield _shared(seen, str(probe))
    away = [found["host"] for _, found in seen if not found["dataset"]]
    if away:
        yield Check("dataset on nodes", "failed", f"{away[0]} has no {config.data.root}", "put it on a disk that all nodes share, or in s3:// or gs://")  # fmt: skip
    yield from _models_on_nodes(config, [found for _, found in seen])
    yield _clocks(seen)


def _equal(found: Sequence[Mapping[str, str]]) -> Check:
    here = versions()
    wrong = [
        f"{node['host']} has {name} {node[name] or 'not at all'}, this machine {here[name]}"
        for node in found
        for name in EQUAL
        if node[name] != here[name]
    ]
    if wrong:
        do = "install the same versions on every node, from the same image or constraints.txt"
        return Check("versions on nodes", "failed", "; ".join(wrong[:3]), do)
    return Check("versions on nodes", "ok", ", ".join(f"{name} {here[name]}" for name in EQUAL) + " everywhere")


def _shared(seen: Sequence[tuple[Answer, Mapping[str, Any]]], probe: str) -> Check:
    do = "choose a folder with --out that every node sees by the same path: a network disk"
    if is_bucket(probe):
        do = "give every node the same rights to the bucket, by a role or its environment"
    wrong = [f"{found['host']}: {found['output']}" for _, found in seen if found["output"]]
    if wrong:
        return Check("output folder on nodes", "failed", f"not shared: {wrong[0]}", do)
    back = sum(name.startswith("seen-") for name in notes(probe))
    if back < len(seen):
        return Check("output folder on nodes", "failed", f"what {len(seen) - back} nodes wrote cannot be seen here", do)
    return Check("output folder on nodes", "ok", "each node reads what this machine writes, and the other way round")


def _models_on_nodes(config: RunConfig, found: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    for source in sources(config):
        worst = [(node["host"], Check(*check)) for node in found for check in node["models"] if check[0] == source.key]
        bad = [(host, check) for host, check in worst if check.status != "ok"]
        if bad:
            host, check = min(bad, key=lambda pair: pair[1].status != "failed")
            yield Check(f"{source.key} on nodes", check.status, f"{host}: {check.found}", check.do)
        elif worst:
            yield Check(f"{source.key} on nodes", "ok", "can be loaded on every node")


def _clocks(seen: Sequence[tuple[Answer, Mapping[str, Any]]]) -> Check:
    skews = {f["host"]: max(answer.asked - f["time"], f["time"] - answer.answered, 0.0) for answer, f in seen}
    host = max(skews, key=lambda name: skews[name])
    if skews[host] > _MOST_SKEW:
        do = (
            "let all nodes keep time by NTP: files' times decide what is newer, and s3 refuses requests of another time"
        )
        return Check("clocks", "warning", f"the clock of {host} differs by {skews[host]:.0f} s", do)
    return Check("clocks", "ok", f"within {_MOST_SKEW:g} s of each other")
