"""The machine: cores, memory, GPUs, and the shared memory that Ray's object store lies in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fairsynth.commands.doctor.check import Check, gib
from fairsynth.config import RunConfig
from fairsynth.models.hub.sizes import network_bytes
from fairsynth.models.sources import SMALL, is_demo

_LEAST_MEMORY = 4 * 2**30
_LEAST_GPU_MEMORY = 8 * 2**30  # of Stable Diffusion 1.5 and one adapter at 512 pixels, with room to spare
# Besides the network's weights: of one adapter in training, and of a few images that are made. What is left of the above.
_TRAINING, _MAKING = 5 * 2**30, 3 * 2**30
_OBJECT_STORE = 512 * 2**20  # as fairsynth.engine.session asks for
_BF16 = 8.0  # compute capability from which on GPUs compute in bfloat16
_SHM = Path("/dev/shm")  # noqa: S108 - Linux's own
_QUERY = "name,memory.total,memory.free,compute_cap,driver_version"


class Gpu(NamedTuple):
    """Of one GPU: its name, memory in all and free, in bytes, compute capability, and the driver's version."""

    name: str
    memory: float
    free: float
    capability: float
    driver: str


def machine_checks(config: RunConfig, gpus: list[Gpu], torch_cuda: str) -> Iterator[Check]:
    """All of this machine."""
    yield _cpu(cores(), available_memory())
    yield gpu_check(config, gpus, torch_cuda)
    if gpus:
        yield compiler_check()
    yield _shared_memory()


def cores() -> float:
    """The cores that this process may use: its affinity, and the quota of its container."""
    there = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    return min(there, int(quota[0]) / int(quota[1])) if len(quota) == 2 and quota[0].isdigit() else there


def available_memory() -> float:
    """Bytes of memory that are free for this process: of the machine, and of its container."""
    line = re.search(r"^MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    free = int(line[1]) * 1024.0 if line else float("inf")
    most, used = (_read(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    return min(free, float(int(most) - int(used))) if most.isdigit() and used.isdigit() else free


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


def _cpu(cores: float, memory: float) -> Check:
    found = f"{cores:g} cores" + (f", {gib(memory)} of memory free" if memory < float("inf") else "")
    if memory < _LEAST_MEMORY:
        do = f"free memory, or use another machine: one worker needs about {gib(_LEAST_MEMORY)}"
        return Check("cores and memory", "warning", found, do)
    return Check("cores and memory", "ok", found)


def gpus_here() -> list[Gpu]:
    """NVIDIA's GPUs, as its own tool lists them; none if the tool is not there or does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603 - the tool's full path and fixed words
            [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=8, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parsed_gpus(done.stdout) if done.returncode == 0 else []


def parsed_gpus(table: str) -> list[Gpu]:
    """From the lines of nvidia-smi (MiB without a unit); what it does not know of a GPU counts as 0."""
    found = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 5:
            total, free, capability = (float(c) if re.fullmatch(r"\d+(\.\d+)?", c) else 0.0 for c in cells[1:4])
            found.append(Gpu(cells[0], total * 2**20, free * 2**20, capability, cells[4]))
    return found


def gpu_check(config: RunConfig, gpus: list[Gpu], torch_cuda: str) -> Check:
    """GPUs are there, torch can use them, and they are large and new enough for the configured models."""
    tiny = is_demo(config.models.diffusion) and config.classify.backbone == SMALL
    if not gpus:
        if tiny:
            return Check("GPUs", "ok", "none, and the demo's models need none")
        do = "run on a machine or a cluster with GPUs (RAY_ADDRESS), or try the tiny models first: --preset demo"
        return Check("GPUs", "warning", "none: models of this size take days on CPUs", do)
    found = "; ".join(f"{gpu.name}, {gib(gpu.memory)}, {gib(gpu.free)} free" for gpu in gpus)
    if not torch_cuda:
        return Check(
            "GPUs", "failed", f"{found}; torch is built without CUDA", "install a torch with CUDA: pip install torch"
        )
    if config.models.dtype == "bfloat16" and (old := [g for g in gpus if 0 < g.capability < _BF16]):
        do = "use float32 there: --models.dtype float32"
        return Check("GPUs", "warning", f"{found}; {old[0].name} does not compute in bfloat16", do)
    least = 0.0 if tiny else _least_gpu_memory(config)
    if small := [gpu for gpu in gpus if gpu.free < least]:
        do = "end what else uses it, or lower resources.adapters_at_once and synthesize.unit_size"
        return Check(
            "GPUs", "warning", f"{found}; less than {gib(least)} are free on {small[0].name}", f"{do}{_lighter(config)}"
        )
    return Check("GPUs", "ok", f"{found}; torch for CUDA {torch_cuda}")


def _least_gpu_memory(config: RunConfig) -> float:
    """Bytes for the larger of training and making images; of a model that is not here, those of Stable Diffusion 1.5."""
    whole = network_bytes(config.models)
    trained = network_bytes(config.models, config.finetune.frozen_weights)
    if whole is None or trained is None:
        return _LEAST_GPU_MEMORY
    return max(whole + _MAKING, trained + _TRAINING if config.finetune.generator != "vanilla" else 0.0)


def _lighter(config: RunConfig) -> str:
    """Settings with which the network takes less, those that are left."""
    ways = ["--models.dtype bfloat16"] if config.models.dtype == "float32" else []
    adapters = config.finetune.generator != "vanilla" and config.finetune.parameters == "adapter"
    ways += ["--finetune.frozen_weights int8"] if adapters and config.finetune.frozen_weights == "dtype" else []
    return f"; or take {' and '.join(ways)}" if ways else ""


def compiler_check() -> Check:
    """There is a C compiler, with which torch compiles networks for GPUs; without it they run as they are."""
    asked = os.environ.get("CC")
    found = shutil.which(asked) if asked else shutil.which("gcc") or shutil.which("clang")
    if found:
        return Check("C compiler", "ok", found)
    do = "install gcc, or set CC to a compiler: the images are the same, and take longer without one"
    return Check("C compiler", "warning", f"{asked or 'gcc'} is not there, so networks are not compiled", do)


def _shared_memory() -> Check:
    try:
        free = shutil.disk_usage(_SHM).free
    except OSError:
        return Check("shared memory", "ok", "this system has no /dev/shm; Ray uses files")
    if free < _OBJECT_STORE:
        do = "give the container more: docker run --shm-size 2g, or an emptyDir of medium Memory at /dev/shm in Kubernetes"
        return Check("shared memory", "warning", f"{_SHM} has {gib(free)} free; Ray takes {gib(_OBJECT_STORE)}", do)
    return Check("shared memory", "ok", f"{_SHM} has {gib(free)} free")
