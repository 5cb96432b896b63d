"""Shared by all tests: their environment, which of them are slow, and one small finished run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.shared.folder_run import submitted
from tests.support.shared.once import once
from tests.support.store.s3_server import bucket, s3_server

__all__ = ["bucket", "s3_server", "submitted"]

# Whoever starts the tests in the background has SIGINT ignored; processes inherit that, and a command leaves it so.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Before anything imports ray or transformers.
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Within one process, Ray knows one way of authentication only, and clusters of several nodes are started without.
os.environ["RAY_AUTH_MODE"] = "disabled"

END_TO_END = Path(__file__).parent / "end_to_end"
# What these fixtures give is a finished run, or comes from Ray.
SLOW = {"finished_run", "new_stage", "on_ray", "session", "submitted"}
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
    # Adapters of six steps draw what they draw: which groups are made shall not hang on it.
    "synthesize.min_shown": 0,
    "filter.min_recognised": 0,
    "filter.min_right": 0,
    "shared.steps": 6,
    "shared.batch_size": 4,
    "shared.rank": 2,
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs, and what needs one or Ray by a fixture, are slow without saying so; files with slow tests come first."""
    for item in items:
        if END_TO_END in item.path.parents or SLOW & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    whole = {item.path for item in items if "finished_run" in getattr(item, "fixturenames", ())}
    first = min(whole, default=None)

    def place(item: pytest.Item) -> int:
        # Of processes that run side by side one makes the finished run; the others have slow files of their own meanwhile,
        # and none is left with a long file when the others have ended.
        return 0 if item.path == first else 3 if item.path not in slow else 2 if item.path in whole else 1

    items.sort(key=place)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Without the mark slow a test cannot start Ray, in no process: the folder that Ray needs cannot be made."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("slow") is None:
            patch.setenv("RAY_TMPDIR", str(Path(os.devnull, "only-tests-marked-slow-may-start-ray")))
        return (yield)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of an undisturbed small run. Copy it before changing anything in it."""
    return once(tmp_path_factory, "finished", _finished) / "out"


def _finished(folder: Path) -> None:
    result = fairsynth("run", *small_arguments(folder / "out"))
    assert result.returncode == 0, result.stderr[-3000:]
    (folder / "stdout.txt").write_text(result.stdout)
