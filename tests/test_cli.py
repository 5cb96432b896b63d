"""The command line in a process of its own: quick, one line per mistake, the right exit code, no Ray before work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fairsynth.cli import STAGES
from fairsynth.lock import locked

Run = Callable[..., subprocess.CompletedProcess[str]]
SECONDS = 60  # a hang, even on a busy machine: every call here takes about one second


@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH, where importing ray or torch ends the process with code 99."""
    folder = tmp_path_factory.mktemp("traps")
    for name in ("ray", "torch"):
        (folder / f"{name}.py").write_text(f"import os, sys\nprint('{name} imported', file=sys.stderr)\nos._exit(99)\n")
    return folder


@pytest.fixture(scope="module")
def run(traps: Path) -> Run:
    """Call fairsynth with the traps set: a command that ends well has loaded neither ray nor torch."""

    def call(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fairsynth.cli", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(traps)},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return call


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def dataset(folder: Path, rows: Sequence[str] = (), header: str = "file_name,label,attribute,split") -> Path:
    """A dataset's metadata alone: no mistake that is found early needs an image."""
    groups = [
        f"{y}-{a}-{s}-{i}.png,{y},{a},{s}"
        for y in "cd"
        for a in "xz"
        for s in ("train", "val", "test")
        for i in range(12)
    ]
    folder.mkdir()
    (folder / "metadata.csv").write_text("\n".join([header, *groups, *rows]) + "\n", encoding="utf-8")
    return folder


def refused(result: subprocess.CompletedProcess[str], code: int) -> str:
    """Check exit code and form of a refusal; returns the message."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("fairsynth: ") and result.stderr.endswith("\n")
    assert result.stderr.count("\n") == 1, "more than one line"
    return result.stderr.strip()


@pytest.mark.parametrize("name", ["ray", "torch"])
def test_the_traps_work(traps: Path, name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(traps)}
    assert subprocess.run([sys.executable, "-c", f"import {name}"], env=environment, check=False).returncode == 99


def test_help_is_quick_and_complete(run: Run) -> None:
    best = float("inf")
    for _ in range(3):
        began = time.monotonic()
        result = run("--help")
        best = min(best, time.monotonic() - began)
    assert best < 2
    assert result.returncode == 0 and result.stderr == ""
    assert all(f" {command} " in result.stdout for command in ("run", *STAGES))


def test_nothing_heavy_is_imported_to_parse_a_command_line() -> None:
    heavy = {"torch", "ray", "diffusers", "transformers", "pyarrow", "numpy", "faiss", "sklearn"}
    code = "import fairsynth, fairsynth.cli, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    loaded = set(result.stdout.split())
    assert "fairsynth.cli" in loaded and not heavy & loaded


def test_version_and_the_help_of_a_command(run: Run) -> None:
    from fairsynth import __version__

    assert run("--version").stdout.strip() == __version__
    result = run("run", "--help")
    assert result.returncode == 0 and "--preset" in result.stdout and "--out" in result.stdout


def test_no_arguments_says_what_to_type(run: Run, tmp_path: Path) -> None:
    text = refused(run("run", cwd=tmp_path), 2)
    assert "fairsynth run --preset demo" in text
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    assert "'fairsynth --help' lists the commands" in refused(run("rnu", "--preset", "demo"), 2)


def test_an_unknown_key_gets_a_suggestion(run: Run, out: Path) -> None:
    text = refused(run("run", "--preset", "demo", "--out", out, "--finetune.stesp", 3), 2)
    assert text == "fairsynth: unknown key 'finetune.stesp' (did you mean 'finetune.steps'?)"
    assert not out.exists()


def test_an_unknown_preset_gets_the_list(run: Run, out: Path) -> None:
    text = refused(run("run", "--preset", "dmeo", "--out", out), 2)
    assert "unknown preset 'dmeo' (did you mean 'demo'?)" in text and "waterbirds" in text
    assert not out.exists()


def test_a_wrong_value_is_named(run: Run, out: Path) -> None:
    assert "finetune.steps" in refused(run("run", "--preset", "demo", "--out", out, "--finetune.steps", 0), 2)


def test_an_option_without_a_value_is_a_usage_error(run: Run, out: Path) -> None:
    assert "--tune.trials needs a value" in refused(run("run", "--preset", "demo", "--out", out, "--tune.trials"), 2)


def test_a_config_file_that_is_missing_or_broken_is_named(run: Run, out: Path, tmp_path: Path) -> None:
    assert "none.yaml: No such file" in refused(run("run", tmp_path / "none.yaml", "--out", out), 2)
    (tmp_path / "bad.yaml").write_text("data: [\n")
    assert "bad.yaml is not valid YAML" in refused(run("run", tmp_path / "bad.yaml", "--out", out), 2)


def test_a_missing_dataset_folder_is_refused(run: Run, out: Path, tmp_path: Path) -> None:
    text = refused(run("run", "--preset", "waterbirds", "--out", out, "--data.root", tmp_path / "nowhere"), 3)
    assert "nowhere' does not exist" in text and "data.root" in text


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["waterbirds", "celeba", "utkface"])
def test_a_preset_without_its_dataset_says_how_to_give_it(run: Run, out: Path, preset: str) -> None:
    assert "set --data.root FOLDER" in refused(run("run", "--preset", preset, "--out", out), 3)


def test_a_missing_column_gets_a_guess(run: Run, out: Path, tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", header="file_name,lable,attribute,split")
    text = refused(run("run", "--preset", "demo", "--data.format", "folder", "--data.root", data, "--out", out), 3)
    assert "no column 'label' (did you mean 'lable'?)" in text and "metadata.csv" in text


def test_a_folder_without_metadata_is_refused(run: Run, out: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    result = run("run", "--preset", "demo", "--data.format", "folder", "--data.root", tmp_path / "data", "--out", out)
    assert "has no metadata table; it must hold metadata.csv" in refused(result, 3)


def test_a_label_that_cannot_be_learnt_is_refused(run: Run, out: Path, tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", ["new.png,bird,x,test"])
    text = refused(run("run", "--preset", "demo", "--data.format", "folder", "--data.root", data, "--out", out), 3)
    assert "label 'bird' occurs only outside the training split; training has: c, d" in text


def test_more_clusters_than_images_are_refused(run: Run, out: Path, tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    options = ("--preset", "demo", "--data.format", "folder", "--data.root", data, "--out", out, "--cluster.k", 13)
    options += ("--cluster.min_group", 10)
    text = refused(run("run", *options), 3)
    assert (
        "cluster.k is 13, but group (c, x) has only 12 training images" in text and "--cluster.k to 12 or less" in text
    )


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True], ids=["the demo's", "one's own"])
def test_a_way_for_a_group_that_there_is_not_is_refused_at_once(run: Run, out: Path, tmp_path: Path, own: bool) -> None:
    options: tuple[object, ...] = ("--preset", "demo", "--out", out)
    if own:
        options += ("--data.format", "folder", "--data.root", dataset(tmp_path / "data"))
    text = refused(run("run", *options, "--synthesize.routes", "{low/flowr: prompt}"), 2)
    assert "synthesize.routes names 'low/flowr'" in text
    assert ("c/x" in text) if own else ("did you mean 'low/flower'?" in text and "high/building" in text)


@pytest.mark.slow
@pytest.mark.parametrize("inside", [".", "out", "a/b"])
def test_an_output_folder_inside_the_dataset_is_refused(run: Run, tmp_path: Path, inside: str) -> None:
    data = dataset(tmp_path / "data")
    result = run("run", "--preset", "demo", "--data.format", "folder", "--data.root", data, "--out", data / inside)
    told = "holds other files and no run of fairsynth" if inside == "." else "lies inside the dataset"
    assert told in refused(result, 2)


def test_a_refused_dataset_is_left_as_it_was(run: Run, tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    run("run", "--preset", "demo", "--data.format", "folder", "--data.root", data, "--out", data / "out")
    assert [path.name for path in data.iterdir()] == ["metadata.csv"]


def test_an_output_folder_that_cannot_be_made_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "cannot write to the output folder" in refused(run("run", "--preset", "demo", "--out", path), 2)


@pytest.mark.slow
def test_an_output_folder_in_use_is_refused_and_free_again_afterwards(run: Run, out: Path, tmp_path: Path) -> None:
    options = ("--preset", "demo", "--data.format", "folder", "--data.root", dataset(tmp_path / "data"), "--out", out)
    with locked(out):
        text = refused(run("run", *options), 6)
        assert f"in use by process {os.getpid()} on " in text and str(out) in text
    assert "needs the result of" in refused(run("report", *options), 2)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_alone_names_the_command_that_must_come_first(run: Run, out: Path, tmp_path: Path, stage: str) -> None:
    data = dataset(tmp_path / "data")
    options = ("--preset", "demo", "--data.format", "folder", "--data.root", data, "--out", out)
    text = refused(run(stage, *options), 2)
    assert f"stage {stage} needs the result of ingest" in text and "run 'fairsynth ingest'" in text
