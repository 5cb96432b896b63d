"""What several scripts share: the machine, figures in words and tables, processes of their own, images, nodes, where results go.

A library: only this module, ``judging`` and the folder ``stacked`` are imported by scripts. Importing it puts the checkout
that it lies in first on the path, here and in all processes started from here, so that scripts measure their own
checkout and need no installation. At its top it imports the standard library alone: what a script measures of its own
memory and start holds nothing that only another script needs.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
WINDOWS, WARM = 5, 3
# Side of the square matrices whose product tells a device's speed; on a CPU scripts are only tried out.
MATRIX = {"cuda": 8192, "cpu": 256}

sys.path.insert(0, str(REPOSITORY))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))


def machine() -> dict[str, Any]:
    """On what CPU, when and how this was measured."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":")[1].strip() for line in info.read_text("utf-8").splitlines() if line.startswith("model name")
    ]
    return {
        "cpu": (names or [platform.processor()])[0],
        "cores": os.cpu_count(),
        **{name: version(name) for name in ("torch", "diffusers", "peft")},
        **_occasion(),
    }


def card(device: str, window_s: float = 0.2) -> dict[str, Any]:
    """On what GPU (or, to try a script, CPU), when and how this was measured, and how fast it multiplies matrices."""
    import torch

    size = MATRIX[device]
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in "ab")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "torch": torch.__version__,
        **_occasion(),
        "matrix_tflops": 2 * size**3 / median(windows(lambda: a @ b, device, window_s)) / 1e12,
    }


def _occasion() -> dict[str, str]:
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "command": " ".join(["python", *sys.argv])}


def windows(call: Callable[[], Any], device: str, window_s: float) -> list[float]:
    """Seconds per call in each of a few windows, after a warm-up."""
    import torch

    def seconds(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / calls

    seconds(WARM)
    calls = max(1, round(window_s / seconds(1)))
    return [seconds(calls) for _ in range(WINDOWS)]


def run(command: Sequence[str], **environment: str) -> str:
    """What a command in a process of its own prints; what it says is shown if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def run_stage(stage: str, *arguments: str, **environment: str) -> None:
    """Run a stage on the demo's settings by fairsynth's own command."""
    run([sys.executable, "-m", "fairsynth.cli", stage, "--preset", "demo", *arguments], **environment)


def apart(script: str, *arguments: str, **environment: str) -> Any:
    """What a script measures in a process of its own: its last line, read as JSON."""
    return json.loads(run([sys.executable, script, *arguments], **environment).splitlines()[-1])


def newest(out: Path, stage: str) -> Path:
    """The newest artifact of a stage in a run's folder."""
    return max((out / "stages").glob(f"{stage}-*"), key=lambda path: path.stat().st_mtime)


def stage_record(out: Path, stage: str) -> dict[str, Any]:
    """What a stage of a run has noted of itself: its seconds, among others."""
    return json.loads((newest(out, stage) / "artifact.json").read_text("utf-8"))  # type: ignore[no-any-return]


def write_images(root: Path, n: int, side: int = 64) -> None:
    """An image folder of ``n`` JPEG crops of two photographs, two labels and two attributes."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photos, rng = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")], np.random.default_rng(0)
    with open(root / "metadata.csv", "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["file_name", "split", "label", "attribute"])
        for i in range(n):
            folder = f"{i // 1000:03d}"
            (root / folder).mkdir(exist_ok=True)
            photo = photos[i % 2]
            y, x = rng.integers(0, photo.shape[0] - side), rng.integers(0, photo.shape[1] - side)
            crop = photo[y : y + side, x : x + side].astype(np.int16) + rng.integers(-12, 13, (side, side, 3))
            name = f"{folder}/{i:06d}.jpg"
            Image.fromarray(crop.clip(0, 255).astype(np.uint8)).save(root / name, quality=90)
            # Nearly everything is training data, for only that is embedded.
            split = "val" if i % 100 < 4 else "test" if i % 100 < 8 else "train"
            table.writerow([name, split, i % 2, i // 2 % 2])


@contextmanager
def peak_memory(result: dict[str, float]) -> Iterator[None]:
    """Highest unique memory (GB) of this process and all its descendants, read every two seconds: looking costs time, too."""
    import psutil

    me, stop, peak = psutil.Process(), threading.Event(), [0.0]

    def watch() -> None:
        while not stop.wait(2):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().uss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total / 1e9)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        result["peak_gb"] = round(peak[0], 2)


@contextmanager
def simulated_nodes(nodes: int, cpus: int = 1, gpus: int = 0) -> Iterator[None]:
    """A cluster of a head and so many nodes, simulated on this machine: the one that RAY_ADDRESS names meanwhile.

    GPUs are counted by Ray, and there are none.
    """
    os.environ["RAY_AUTH_MODE"] = "disabled"  # a simulated cluster has no authentication
    from ray.cluster_utils import Cluster

    small = {"num_cpus": cpus, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(**small, num_gpus=gpus, wait=False)
        cluster.wait_for_nodes()
        os.environ["RAY_ADDRESS"] = cluster.address
        yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        cluster.shutdown()


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and range."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low} – {high})" if len(values) > 1 else middle


def in_words(facts: Mapping[str, Any], between: str = ", ") -> str:
    """All facts in one line."""
    return between.join(f"{key}: {value}" for key, value in facts.items())


def markdown_row(cells: Iterable[Any]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def markdown_table(head: Sequence[str], rows: Iterable[str]) -> str:
    """A Markdown table of such rows."""
    return "\n".join([markdown_row(head), "| --- " * len(head) + "|", *rows])


def write_json(path: Path | None, content: Any) -> None:
    """Write results to a file, if one is named; paths among them are written as text."""
    if path:
        path.write_text(json.dumps(content, indent=1, default=os.fspath) + "\n", "utf-8")
