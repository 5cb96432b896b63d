"""Plans of datasets that are metadata alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairsynth.commands.plan.data import as_data
from fairsynth.commands.plan.run import layout_of, plan_of
from fairsynth.config.load import load_config
from tests.support.datasets import write_rows

ROOT = Path(__file__).parents[3]
# The published sizes, in the order (y, place).
WATERBIRDS: Mapping[str, Sequence[int]] = {
    "0": (3498, 184, 56, 1057),
    "1": (467, 466, 133, 133),
    "2": (2255, 2255, 642, 642),
}
GROUPS = (("0", "0"), ("0", "1"), ("1", "0"), ("1", "1"))
BIRDS = ("img_id", "img_filename", "y", "split", "place", "place_filename")


def waterbirds(folder: Path) -> Path:
    """The metadata of Waterbirds as it is published, without the images."""
    rows: list[tuple[str, ...]] = []
    for split, counts in WATERBIRDS.items():
        for (y, place), n in zip(GROUPS, counts, strict=True):
            rows += [
                (f"{len(rows) + i}", f"{i % 200:03d}.Bird/{split}{y}{place}{i}.jpg", y, split, place, "x")
                for i in range(n)
            ]
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "metadata.csv", BIRDS, rows)
    return folder


def planned(out: Path, preset: str | None, price: float | None = None, **settings: Any) -> dict[str, Any]:
    """The plan as data; keys of ``settings`` have ``__`` for the dot."""
    keys = {key.replace("__", "."): value for key, value in settings.items()}
    config = load_config(None, preset, {"resources.workers": 2, **keys, "out": str(out)})
    return as_data(plan_of(config, out.resolve()), layout_of(config), price)


def stage(plan: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A stage of a plan."""
    return next(dict(entry) for entry in plan["stages"] if entry["name"] == name)


def exact(n: int) -> dict[str, int]:
    """A number that is known exactly, as the plan has it."""
    return {"least": n, "likely": n, "most": n}


def in_process(*arguments: str | Path, traps: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; ``traps``: a folder of modules that must not be imported."""
    return subprocess.run(
        [sys.executable, "-m", "fairsynth.cli", *map(str, arguments)],
        env=environment(traps),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def environment(traps: Path | None = None) -> dict[str, str]:
    """With this checkout, and with the traps before everything else."""
    paths = [str(traps)] if traps else []
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*paths, str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def set_traps(folder: Path) -> Path:
    """A folder in which ray and torch end the process with code 99."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ray", "torch"):
        (folder / f"{name}.py").write_text("import os\nos._exit(99)\n", encoding="utf-8")
    return folder


def as_json(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What a command printed as JSON."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]
