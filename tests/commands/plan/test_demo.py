"""The demo's plan against what demo runs did and took."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fairsynth.commands.plan.data import as_data
from fairsynth.commands.plan.run import plan_of
from fairsynth.config.load import load_config, parse_overrides
from tests.conftest import small_arguments
from tests.support.calling import call
from tests.support.data.planning import ROOT, exact, planned, stage

FACTS = json.loads((ROOT / "benchmarks" / "results" / "demo_rates.json").read_text("utf-8"))


def test_the_demos_time_is_within_a_factor_of_two_of_what_it_took(tmp_path: Path) -> None:
    plan = planned(tmp_path / "out", "demo")
    took = FACTS["whole run, s"]
    assert took / 2 < plan["seconds"]["likely"] < 2 * took
    assert plan["seconds"]["least"] < took < plan["seconds"]["most"]
    for name, known in FACTS["stages"].items():
        likely = stage(plan, name)["seconds"]["likely"]
        assert likely == pytest.approx(known["seconds"], rel=1.0, abs=5), name


def test_the_demos_units_are_those_of_the_recorded_run(tmp_path: Path) -> None:
    plan = planned(tmp_path / "out", "demo")
    for name, known in FACTS["stages"].items():
        units, made = stage(plan, name)["units"], known["units"]
        # The record of tune counts three packs of images, too.
        made -= 3 if name == "tune" else 0
        assert units["least"] <= made <= units["most"], name
        if name != "synthesize":
            assert units["likely"] == made, name
    size = sum(known["bytes"] for known in FACTS["stages"].values())
    assert size / 2 < plan["disk_bytes"] < 2 * size


def _executed(run: Path) -> dict[str, int]:
    records = [json.loads(path.read_text("utf-8")) for path in run.glob("stages/*/artifact.json")]
    units = {record["stage"]: record["units"] for record in records}
    packs = next(iter(run.glob("stages/tune-*/units")))
    units["tune"] -= sum(path.name.startswith("pack-") for path in packs.iterdir())
    return units


def test_planned_units_are_the_executed_ones(finished_run: Path, tmp_path: Path) -> None:
    arguments = small_arguments(tmp_path / "new")
    config = load_config(None, "demo", parse_overrides(arguments[2:]))
    plan, executed = as_data(plan_of(config, tmp_path / "new"), "demo", None), _executed(finished_run)
    for name, made in executed.items():
        units = stage(plan, name)["units"]
        assert units["least"] <= made <= units["most"], name
        if name != "synthesize":  # its rounds depend on what the filter keeps
            assert units["likely"] == made, name
    for name in ("ingest", "embed", "cluster", "audit", "tune", "evaluate", "report"):
        assert stage(plan, name)["units"] == exact(executed[name])


def test_of_a_finished_run_nothing_is_to_do(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    code, text, err = call("plan", *small_arguments(run))
    assert (code, err) == (0, "") and "nothing to do: every stage is finished" in text
    rows = {
        line.split()[0]: line.split()[1:3] for line in text.splitlines() if line[:10].strip() in _executed(finished_run)
    }
    assert rows == {name: ["0", str(n)] for name, n in _executed(finished_run).items()}
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_is_finished_is_not_planned_again(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)  # with the files' times, by which ingest is known
    code, text, _ = call("plan", *small_arguments(run, tune__trials=2), "--json")
    plan = json.loads(text)
    assert code == 0
    done = {entry["name"] for entry in plan["stages"] if entry["finished"]}
    assert done == {"ingest", "embed", "cluster", "finetune", "synthesize", "audit"}
    assert stage(plan, "tune")["units_to_do"] == 6 and stage(plan, "tune")["units_cached"] == 0
    assert stage(plan, "tune")["rate"]["measured"] and str(run) in stage(plan, "tune")["rate"]["source"]
    assert all(group["finished"] for group in plan["groups"])


def test_an_interrupted_stage_counts_what_is_committed(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    evaluate = next(run.glob("stages/evaluate-*"))
    (evaluate / "artifact.json").unlink()
    shutil.rmtree(next(path for path in evaluate.glob("units/*") if not path.name.startswith("pack-")))
    plan = json.loads(call("plan", *small_arguments(run), "--json")[1])
    assert stage(plan, "evaluate")["units_cached"] == 5 and stage(plan, "evaluate")["units_to_do"] == 1


def test_another_runs_rates_are_taken(finished_run: Path, tmp_path: Path) -> None:
    words = ["plan", *small_arguments(tmp_path / "new"), "--rates-from", finished_run, "--json"]
    plan = json.loads(call(*words)[1])
    assert {entry["name"] for entry in plan["stages"] if entry["rate"]["measured"]} >= {"embed", "finetune", "tune"}
    other = json.loads(call(*words, "--models.image_size", "64")[1])
    assert not stage(other, "embed")["rate"]["measured"] and stage(other, "tune")["rate"]["measured"]
    code, _, err = call("plan", "--preset", "demo", "--out", tmp_path / "x", "--rates-from", tmp_path)
    assert code == 2 and "--rates-from" in err and "no finished stages" in err
