"""The command plan in a process of its own: quick, without Ray and torch, and it refuses what run refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.calling import call, refused
from tests.support.data.planning import as_json, environment, in_process, set_traps, waterbirds
from tests.support.datasets import write_rows


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    return set_traps(tmp_path / "traps")


def test_neither_ray_nor_torch_is_imported(tmp_path: Path, traps: Path) -> None:
    trapped = subprocess.run(
        [sys.executable, "-c", "import torch"], env=environment(traps), check=False, capture_output=True
    )
    assert trapped.returncode == 99
    result = in_process("plan", "--preset", "demo", "--out", tmp_path / "out", traps=traps)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "" and "finetune" in result.stdout and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_finished_run_is_planned_without_them(finished_run: Path, tmp_path: Path, traps: Path) -> None:
    from tests.conftest import small_arguments

    run = shutil.copytree(finished_run, tmp_path / "run")  # with the files' times, by which ingest is known
    plan = as_json(in_process("plan", *small_arguments(run), "--json", traps=traps))
    assert plan["nothing_to_do"]


def test_a_dry_run_is_the_plan(tmp_path: Path) -> None:
    words = ["--preset", "demo", "--out", str(tmp_path / "out"), "--price-per-hour", "3"]
    planned, dry = call("plan", *words), call("run", *words, "--dry-run")
    assert planned == dry and planned[0] == 0 and " at 3 per worker-hour" in planned[1]
    assert not (tmp_path / "out").exists()


def test_keys_of_the_data_keep_their_names(tmp_path: Path) -> None:
    plan = json.loads(call("plan", "--preset", "demo", "--out", tmp_path / "out", "--json")[1])
    assert plan["schema"] == 1
    assert {*plan} == {
        *("schema", "out", "nothing_to_do", "dataset", "stages", "seconds", "workers", "worker_hours", "cost"),
        *("price_per_hour", "disk_bytes", "groups", "terms", "privacy", "notes"),
    }
    assert {*plan["stages"][0]} == {
        *(
            "name",
            "finished",
            "units",
            "units_cached",
            "units_to_do",
            "images",
            "steps",
            "disk_bytes",
            "seconds",
            "rate",
        ),
    }
    assert {*plan["groups"][0]} == {
        *("label", "attribute", "real", "wanted", "first_round", "route", "decided_among", "how", "finished"),
    }


def _refusals(folder: Path) -> dict[str, tuple[int, list[str]]]:
    one = folder / "one"
    one.mkdir()
    write_rows(one / "metadata.csv", ("file_name", "label", "attribute", "split"), [("a.png", "x", "p", "train")])
    birds = str(waterbirds(folder / "birds"))
    return {
        "nothing": (2, []),
        "preset": (2, ["--preset", "dmeo"]),
        "key": (2, ["--preset", "demo", "--tune.trails", "3"]),
        "no dataset": (3, ["--preset", "waterbirds"]),
        "not there": (3, ["--data.root", str(folder / "gone")]),
        "one image": (3, ["--data.root", str(one)]),
        "inside": (2, ["--data.root", birds, "--out", f"{birds}/out"]),
        "route": (2, ["--preset", "waterbirds", "--data.root", birds, "--synthesize.routes", "{0/2: prompt}"]),
        "large k": (3, ["--preset", "waterbirds", "--data.root", birds, "--cluster.k", "99"]),
        "model": (2, ["--preset", "demo", "--models.diffusion", "./gone"]),
    }


def test_what_run_refuses_is_refused_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, (code, words) in _refusals(tmp_path).items():
        planned, run = call("plan", *words), call("run", *words)
        assert planned[0] == run[0] == code, (name, planned, run)
        assert planned[1] == run[1] == "", name
        if name != "nothing":
            assert planned[2] == run[2], name
        assert planned[2].startswith("fairsynth: ") and planned[2].count("\n") == 1, name


@pytest.mark.parametrize("price", ["-1", "inf", "nan"])
def test_a_price_is_a_price(tmp_path: Path, price: str) -> None:
    code, _, err = call("plan", "--preset", "demo", "--out", tmp_path / "out", "--price-per-hour", price)
    assert code == 2 and "--price-per-hour" in err


def test_impossible_routes_are_told_now(tmp_path: Path) -> None:
    words = ["--preset", "demo", "--out", str(tmp_path / "out"), "--synthesize.routes", "{low/flower: own}"]
    code, _, err = call("plan", *words)
    assert code == 2 and "there is no adapter for that" in err


@pytest.mark.parametrize("place", ["/proc/x", "file"])
def test_an_output_folder_that_run_refuses_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    line = refused(call("plan", "--preset", "demo", "--out", tmp_path / place))
    assert line.startswith(f"fairsynth: cannot write to the output folder {tmp_path / place}: ")
