"""How many workers a run will have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairsynth.commands.plan import estimate
from fairsynth.commands.plan.estimate import workers_of
from fairsynth.config.load import load_config


@pytest.mark.parametrize(("visible", "workers"), [(None, 8), ("3", 1), ("0,1", 2), ("", 1)])
def test_gpus_count_as_far_as_a_program_may_see_them(
    visible: str | None, workers: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (*(f"nvidia{i}" for i in range(8)), "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(estimate, "Path", lambda _: tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert workers_of(load_config(None, "waterbirds", {"data.root": "x"})).count == workers


def test_a_worker_of_several_threads_takes_as_many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(estimate, "_gpus", lambda: 0)
    assert [workers_of(load_config(None, "demo", {"resources.threads": n})).count for n in (1, 3, 16)] == [8, 2, 1]
