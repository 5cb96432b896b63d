"""200 adapters on four nodes; one dies, one is taken back with a notice: nothing is lost, the weights are the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fairsynth.models.adapters import FILE_NAME
from fairsynth.models.diffusion import load_denoiser
from fairsynth.stages.finetune.jobs import lots
from fairsynth.stages.finetune.latents import LatentFiles
from fairsynth.stages.finetune.lot_state import Trained
from fairsynth.stages.finetune.output import TEXTS_UNIT, read_adapter
from fairsynth.stages.finetune.prompt_embeddings import read_texts
from fairsynth.stages.finetune.stacked_training import StackedTrainer
from tests.support.many_clusters import CONFIG, COUNT, PER_LOT, many_jobs, models

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The stage's folder after the run, and what was seen on the way."""
    folder = tmp_path_factory.mktemp("lots")
    # A process of its own: this one may be in another cluster.
    result = subprocess.run(
        [sys.executable, "-m", "tests.support.drive_lots", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    (stage,) = (folder / "stages").iterdir()
    return stage, json.loads((folder / "events.json").read_text("utf-8"))


# Fault cases 49, 50: a node is lost, or taken back with a notice.
def test_all_adapters_finish_though_a_node_dies_and_another_is_drained(disturbed: tuple[Path, dict[str, Any]]) -> None:
    stage, events = disturbed
    # A killed worker may leave a hidden folder behind, which the next run sweeps away.
    units = {path.name for path in (stage / "units").glob("[!.]*")} - {TEXTS_UNIT}
    assert units == {job.name for job in many_jobs()}
    assert len(units) == events["made"] == COUNT
    assert not any(read_adapter(stage / "units" / name)["failed"] for name in units)
    assert events["drain_accepted"] and events["alive"] == 3, "head and two of four nodes are left"
    # Committed is committed.
    assert events["at_kill"]
    assert {*events["at_kill"], *events["at_notice"], *events["at_removal"]} <= units
    assert len(events["at_removal"]) < COUNT, "the nodes went too late to test anything"


def test_lots_of_the_lost_nodes_go_on_elsewhere_from_their_checkpoint(disturbed: tuple[Path, dict[str, Any]]) -> None:
    _, events = disturbed
    for lot in ("killed", "drained"):
        first, second = events["places"][events[lot]][:2]
        assert first != second
    for lot, steps in events["steps"].items():
        assert steps == sorted(steps), f"{lot} began again: {steps}"
    # Both were on their way, seen at several checkpoints.
    assert all(len(events["steps"][events[lot]]) > 3 for lot in ("killed", "drained"))


def test_a_notice_and_nothing_else_leads_to_a_checkpoint_out_of_turn(disturbed: tuple[Path, dict[str, Any]]) -> None:
    _, events = disturbed
    assert events["noticed"].keys() == {events["drained"]} and len(events["noticed"][events["drained"]]) == 1
    assert {*events["noticed"][events["drained"]]} <= {*events["saved"][events["drained"]]}
    for lot, steps in events["saved"].items():
        out_of_turn = {step for step in steps if int(step) % CONFIG.checkpoint_every}
        # One notice in checkpoint_every (7) comes when a checkpoint is due anyway.
        assert out_of_turn <= {*events["noticed"].get(lot, [])}


def test_the_weights_are_those_of_an_undisturbed_loop(disturbed: tuple[Path, dict[str, Any]]) -> None:
    stage, _ = disturbed
    denoiser = load_denoiser(models(stage.parents[1]))
    latents = LatentFiles(sorted(stage.parents[1].glob("embeddings-*.parquet")), {})
    trainer = StackedTrainer(denoiser, CONFIG, read_texts(stage / "units" / TEXTS_UNIT), latents)
    found: dict[str, Trained] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for lot in lots(many_jobs(), 4, PER_LOT):
            trainer.train(lot, lambda trained: found.__setitem__(trained.job.name, trained))
    finally:
        torch.set_num_threads(threads)
    for job in many_jobs():
        saved, undisturbed = load_file(stage / "units" / job.name / FILE_NAME), found[job.name].weights
        assert undisturbed is not None
        assert saved.keys() == {f"unet.{name}" for name in undisturbed}
        assert all(torch.equal(saved[f"unet.{name}"], value) for name, value in undisturbed.items()), job.name
