"""The benchmarks of stacked adapters: shapes are the published ones, and the scripts measure what they say."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stacked.bases import FULL, TINY, TINY_SIZE, Batch
from benchmarks.stacked.trainers import How
from fairsynth.models.stacked import StackedAdapters
from tests.support.structure import ROOT

# Of the published models: parameters in billions, and how many layers get an adapter.
PUBLISHED = {
    "sd15": (0.860, 128),
    "sdxl": (2.567, 560),
    "sd3": (2.243, 191),
    "flux2": (3.876, 60),
    "zimage": (6.155, 136),
}
Json = dict[str, Any]


def run(script: str, *options: str) -> str:
    """What a script prints, run as its docstring tells."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of cells; importing it changes the environment, which is put back."""
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    return importlib.import_module("benchmarks.stacked.cells")


@pytest.mark.parametrize("name", FULL)
def test_shapes_have_the_size_of_the_published_models(name: str) -> None:
    base, (parameters, layers) = FULL[name], PUBLISHED[name]
    network = base.network("meta", torch.bfloat16)
    stack = StackedAdapters(network, 16, 16, base.family.targets)
    assert sum(p.numel() for p in network.parameters()) / 1e9 == pytest.approx(parameters, abs=6e-4)
    assert len(stack.state(torch.zeros(stack.size, device="meta"))) == 2 * layers


def test_a_pass_of_stable_diffusion_15_costs_what_was_counted_on_a_card() -> None:
    how = How(FULL["sd15"], "meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        how.predicted(how.network(), how.batch(512, 1))
    known = json.loads((ROOT / "benchmarks" / "results" / "stacked_sd15_h100.json").read_text("utf-8"))
    assert counter.get_total_flops() / 1e12 == pytest.approx(known["machine"]["forward_tflop"])


@pytest.mark.parametrize("name", TINY)
def test_tiny_networks_are_small_and_take_the_samples_that_are_made_for_them(name: str) -> None:
    how = How(TINY[name], "cpu")
    network, batch = how.network(), how.batch(TINY_SIZE, 2)
    with torch.no_grad():
        assert how.predicted(network, batch).shape == batch.target.shape == (2, *how.base.latents(TINY_SIZE))
    assert 5e5 < sum(p.numel() for p in network.parameters()) < 6e6


def bench_of(cells: Any, folder: Path, **changed: Any) -> Any:
    """Nothing measured yet, and a network of one operation a sample."""
    settings = {"out": folder / "x", "device": "cpu", "window_s": 0.001, "budget_s": 60.0, "compile_s": 90.0}
    bench = cells.Bench(settings | {"alone": ["peft"]} | changed)
    bench.networks.append({"base": "sd3", "size": TINY_SIZE, "sample_tflop": 1e-12, "forward_tflop": 1e-12})
    bench.networks[0] |= {"parameters": 1, "weights of an adapter": 1, "at_once": {1: 4}}
    return bench


def test_a_cell_that_cannot_be_measured_says_why_and_the_others_go_on(cells: Any, tmp_path: Path) -> None:
    bench = bench_of(cells, tmp_path)
    place = cells.Place("sd3", How(TINY["sd3"], "cpu"), TINY_SIZE)

    def failing(error: Exception) -> AbstractContextManager[Any]:
        def step(batch: Batch) -> None:
            raise error

        return nullcontext(step)

    full = bench.cell(place, "stacked", 4, 1, lambda: failing(torch.cuda.OutOfMemoryError("no")))
    broken = bench.cell(place, "stacked", 2, 1, lambda: failing(RuntimeError("no such\nkernel")))
    late = bench.cell(place, "compiled", 1, 1, lambda: nullcontext(lambda batch: None), compiles=True)
    good = bench.cell(place, "peft", 1, 1, lambda: nullcontext(lambda batch: None))
    notes = [row["note"] for row in (full, broken, late, good)]
    assert notes == ["out of memory", "failed: RuntimeError: no such kernel", late["note"], ""]
    assert late["note"].startswith("skipped: ") and "seconds" not in late and good["samples_per_s"] > 0
    written = json.loads((tmp_path / "x.json").read_text("utf-8"))
    assert [row["note"] for row in written["rows"]] == notes and str(tmp_path) not in json.dumps(written["settings"])
    assert "| sd3 | 128 | stacked | 4 | 1 |  |  |  |  |  | out of memory |" in (tmp_path / "x.md").read_text("utf-8")


def test_times_are_those_of_the_same_samples_of_one_adapter(cells: Any, tmp_path: Path) -> None:
    bench = bench_of(cells, tmp_path)
    same = {"base": "sd3", "size": TINY_SIZE, "each": 1, "note": "", "share": 0.5, "peak_gb": 2.0}
    bench.rows = [
        same | {"trainer": "stacked", "adapters": 4, "seconds": [0.5], "samples_per_s": 8.0},
        same | {"trainer": "peft", "adapters": 1, "seconds": [0.5], "samples_per_s": 2.0},
        same | {"trainer": "peft", "adapters": 1, "each": 4, "seconds": [1.0], "samples_per_s": 4.0},
    ]
    assert "| sd3 | 128 | stacked | 4 | 1 | 2.00 | 8.0 (8.0 – 8.0) | 2.0 | 50.0% | 4.00 |  |" in bench.text()


@pytest.mark.slow
def test_the_families_script_measures_tiny_networks_and_stays_within_its_minutes(tmp_path: Path) -> None:
    run("stacked_families.py", "--out", str(tmp_path / "x"), "--smoke", "--gradient-checkpointing")
    found = json.loads((tmp_path / "x.json").read_text("utf-8"))
    bases = ["sdxl", "sd3", "flux2"]
    assert [(row["base"], row["trainer"], row["adapters"], row["note"]) for row in found["rows"]] == [
        (base, *cell, "") for base in bases for cell in (("stacked", 2), ("peft", 1))
    ]
    assert [network["base"] for network in found["networks"]] == bases and found["skipped"] == []
    assert all(
        2 < one["sample_tflop"] / one["forward_tflop"] < 3 and one["at_once"]["1"] > 1 for one in found["networks"]
    )
    run("stacked_families.py", "--out", str(tmp_path / "y"), "--smoke", "--minutes", "0.1")
    late = json.loads((tmp_path / "y.json").read_text("utf-8"))
    assert late["rows"] == [] and [text.split(":")[0] for text in late["skipped"]] == bases


@pytest.mark.slow
def test_the_command_for_stable_diffusion_15_works_as_before(tmp_path: Path) -> None:
    options = ("--adapters", "1", "2", "--each", "1", "--alone", "plain", "peft-bf16", "--out", str(tmp_path / "x"))
    assert "| sd15 | 128 | stacked | 2 | 1 |" in run("stacked_sd15.py", "--smoke", *options)
    rows = json.loads((tmp_path / "x.json").read_text("utf-8"))["rows"]
    assert [row["trainer"] for row in rows] == ["stacked", "stacked", "plain", "peft-bf16"]
    assert all(row["samples_per_s"] > 0 for row in rows)


@pytest.mark.slow
def test_what_could_be_faster_is_measured_beside_what_is(tmp_path: Path) -> None:
    run("stacked_sd15.py", "--smoke", "--before-after", "--out", str(tmp_path / "x"))
    rows = json.loads((tmp_path / "x.json").read_text("utf-8"))["rows"]
    known = {(row["trainer"].removeprefix("stacked"), row["adapters"], row["each"]): row["note"] for row in rows}
    assert {name for name, _, _ in known} == {
        "",
        ", attention by cuDNN",
        ", channels last",
        ", CUDA graphs",
    }
    assert known["", 2, 1] == known[", channels last", 2, 4] == "" and not any(
        "failed" in note for note in known.values()
    )
    run("generate_sd15.py", "--smoke", "--before-after", "--out", str(tmp_path / "y"))
    made = json.loads((tmp_path / "y.json").read_text("utf-8"))["rows"]
    assert [row["note"] for row in made] == [""] * 9 and all(row["images/s"] > 0 for row in made)
    assert [row["how"] for row in made][-3:] == [
        "compiled, files after the pixels",
        "compiled, files beside the next batch",
        "compiled, four steps without guidance",
    ]


@pytest.mark.slow
def test_adapters_of_every_family_come_out_as_by_peft(tmp_path: Path) -> None:
    options = ("--adapters", "2", "--steps", "2", "--batches", "1", "--repeats", "1", "--threads", "1")
    run("stacked_vs_peft.py", "--bases", "sdxl", "sd3", "flux2", "zimage", *options, "--json", str(tmp_path / "x.json"))
    rows = json.loads((tmp_path / "x.json").read_text("utf-8"))["rows"]
    assert [row["base"] for row in rows] == ["sdxl", "sd3", "flux2", "zimage"]
    # Relative to how far the weights moved; AdamW's first steps take the gradient's sign, even of one that is nearly nothing.
    assert all(0 < row["apart"] < 0.01 for row in rows)
