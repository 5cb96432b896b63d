"""The script that each manifest runs: it looks before a GPU is asked for, and ends with fairsynth's own exit code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from fairsynth.commands.run.command import run
from tests.support.deploy.files import FOLDER, shell_problem
from tests.support.deploy.trying import IN_IMAGE, tried
from tests.support.docs.page_checks import fairsynth_problem

SCRIPT = f'bash {IN_IMAGE} "$@"'
OPTIONS = ["--preset", "waterbirds", "--data.root", "s3://b/wb", "--out", "s3://b/out", "--resources.workers", "8"]
ON_CLUSTER = {"RAY_ADDRESS": "10.0.0.1:6379"}


def test_it_looks_at_config_and_images_before_it_runs(tmp_path: Path) -> None:
    done = tried(SCRIPT, tmp_path, OPTIONS, variables=ON_CLUSTER)
    assert done.code == 0, done.text
    plan, look, run_call = (words for words, _ in done.calls)
    assert plan == ["run", *OPTIONS, "--dry-run"] and run_call == ["run", *OPTIONS]
    # The settings of the run, but on this machine alone and without a GPU.
    own = ["--preset", "waterbirds", "--data.root", "s3://b/wb", "--resources.workers", "8"]
    assert look[0] == "inspect" and look[1].endswith(".yaml")
    assert look[2:] == [*own, "--resources.workers", "null", "--resources.gpus_per_worker", "0"]
    assert [address for _, address in done.calls] == ["10.0.0.1:6379", None, "10.0.0.1:6379"]
    assert not list(tmp_path.glob("*.yaml"))
    assert [fairsynth_problem(words) for words, _ in done.calls] == ["", "", ""]


@pytest.mark.parametrize(("stops", "code", "calls"), [("look", 2, 1), ("inspect", 3, 2)])
def test_what_a_run_would_refuse_ends_it_before_a_worker_is_asked_for(
    stops: str, code: int, calls: int, tmp_path: Path
) -> None:
    done = tried(SCRIPT, tmp_path, OPTIONS, {stops: code})
    assert (done.code, len(done.calls)) == (code, calls)
    assert not list(tmp_path.glob("*.yaml"))


@pytest.mark.parametrize("code", [3, 5])
def test_it_ends_with_the_exit_code_of_the_run(code: int, tmp_path: Path) -> None:
    assert tried(SCRIPT, tmp_path, OPTIONS, {"run": code}).code == code


def test_a_config_is_looked_at_itself(tmp_path: Path) -> None:
    done = tried(SCRIPT, tmp_path, ["my config.yaml", "--out=s3://b/o", "--yes", "--seed", "3"])
    assert done.calls[1][0][:4] == ["inspect", "my config.yaml", "--seed", "3"]
    assert done.calls[2][0] == ["run", "my config.yaml", "--out=s3://b/o", "--yes", "--seed", "3"]


def test_looking_can_be_left_out(tmp_path: Path) -> None:
    done = tried(SCRIPT, tmp_path, OPTIONS, variables={"FAIRSYNTH_LOOK": "no"})
    assert [words for words, _ in done.calls] == [["run", *OPTIONS]]


def test_without_an_option_it_is_the_run_that_says_what_is_missing(tmp_path: Path) -> None:
    done = tried(SCRIPT, tmp_path, [], {"look": 2})
    assert (done.code, [words for words, _ in done.calls]) == (2, [["run", "--dry-run"]])


def test_it_knows_every_option_that_a_run_has_and_inspect_has_not() -> None:
    text = (FOLDER / "job.sh").read_text("utf-8")
    own = {name for name in inspect.signature(run).parameters if name not in ("tokens", "preset")}
    known = {word.replace("-", "_") for word in re.findall(r"--([a-z-]+)(?=[ |)=])", text.partition("case $word")[2])}
    assert own <= known
    assert shell_problem(text) == ""
