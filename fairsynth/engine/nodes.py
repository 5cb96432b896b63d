"""How many workers fit on the nodes of a cluster: no worker lies on two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Node = Mapping[str, float]
"""What a node offers, by Ray's names: CPU, GPU."""
# Ray counts in ten-thousandths.
_DIGITS = 4


def alive() -> list[Node]:
    """The nodes of the cluster that this process is connected to."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def total(nodes: Sequence[Node], resource: str) -> float:
    """What all nodes have together."""
    return sum(node.get(resource, 0.0) for node in nodes)


def most(nodes: Sequence[Node], resource: str) -> float:
    """The most that one node has."""
    return max((node.get(resource, 0.0) for node in nodes), default=0.0)


def room_for(nodes: Sequence[Node], cpus: float, gpus: float) -> int:
    """Workers with so many CPUs and GPUs, more than 0 of one of them, that can run at once.

    A part of a GPU is of one GPU: of 0.4 of four GPUs there are eight, two on each.
    """
    return sum(_on(node, cpus, gpus) for node in nodes)


def _on(node: Node, cpus: float, gpus: float) -> int:
    there = node.get("GPU", 0.0)
    by_gpu = math.floor(there) * _floor(1 / gpus) if 0 < gpus < 1 else _floor(there / gpus) if gpus else None
    by_cpu = _floor(node.get("CPU", 0.0) / cpus) if cpus else None
    return min(n for n in (by_gpu, by_cpu) if n is not None)


def room_for_threads(nodes: Sequence[Node], threads: int, spare: bool) -> int:
    """Workers with so many CPUs each that the nodes' CPUs suffice for; with ``spare`` one CPU, of any node, stays free."""
    cores = [math.floor(node.get("CPU", 0.0)) for node in nodes]
    # Where a node has CPUs left over, one of these is free.
    taken = 1 if spare and not any(n % threads for n in cores) else 0
    return max(0, sum(n // threads for n in cores) - taken)


def _floor(value: float) -> int:
    """The whole part; what floating point takes from a whole number is no loss."""
    return math.floor(round(value, _DIGITS))
