"""Shared fixtures: the environment of every test, and one small finished run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

# Before anything imports ray or transformers.
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Within one process, Ray knows one way of authentication only, and clusters of several nodes are started without.
os.environ["RAY_AUTH_MODE"] = "disabled"

# The demo's real models and stages, with as little of everything as still has meaning.
SMALL = {
    "finetune.steps": 6,
    "finetune.checkpoint_every": 2,
    "finetune.class_images": 8,
    "finetune.batch_size": 4,
    "cluster.k": 2,
    "synthesize.per_group": 12,
    "synthesize.steps": 2,
    "synthesize.unit_size": 8,
    "synthesize.trial_images": 8,
    "classify.pretrain_epochs": 1,
    "classify.finetune_epochs": 1,
    "tune.trials": 1,
    "evaluate.seeds": 2,
    # Where tests run side by side a second worker has no core; tests/end_to_end/test_nodes.py has three.
    "resources.workers": 1,
    "resources.adapters_per_run": 4,
    "classify.image_size": 32,
}


def small_arguments(out: Path, **changed: object) -> list[str]:
    """Command-line arguments of a small demo run; keys of ``changed`` use ``__`` for the dot."""
    settings = SMALL | {key.replace("__", "."): value for key, value in changed.items()}
    return [
        "--preset",
        "demo",
        "--out",
        str(out),
        *(word for key, value in settings.items() for word in (f"--{key}", str(value))),
    ]


def fairsynth(*arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fairsynth.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"},
    )


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of an undisturbed small run. Copy it before changing anything in it."""
    base = tmp_path_factory.getbasetemp()
    # Test processes that run side by side share one.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock"):
        if not (folder / "stdout.txt").exists():
            result = fairsynth("run", *small_arguments(folder / "out"))
            assert result.returncode == 0, result.stderr[-3000:]
            (folder / "stdout.txt").write_text(result.stdout)
    return folder / "out"
