"""Which folders a run may write to, and what in them it may replace."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from fairsynth.errors import ConfigError
from fairsynth.run_folder import files
from fairsynth.run_folder.mark import MARK, VIEWS, check_folder, claim, is_run_folder, take_name

STAGE = "stages/ingest-0123456789abcdef"


def made(root: Path) -> list[str]:
    return list(json.loads((root / MARK).read_text("utf-8"))["made"])


def test_a_new_or_empty_folder_is_marked_and_found_again(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    assert not list(tmp_path.iterdir()), "looking writes nothing"
    claim(tmp_path)
    assert os.listdir(tmp_path) == [MARK] and made(tmp_path) == [] and is_run_folder(tmp_path)
    (tmp_path / "whatever").write_text("somebody put it beside")
    check_folder(tmp_path)
    claim(tmp_path)


@pytest.mark.parametrize(
    "name", ["config.yaml", "run.YML".lower(), "slurm-17.out", "job.err", "notes.txt", "go.sh", "lost+found/", "logs/job.log",
             ".gitignore", ".DS_Store", ".ipynb_checkpoints/", ".Trash-1000/", "._config.yaml"]
)  # fmt: skip
def test_what_people_and_schedulers_put_beside_a_run_does_no_harm(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("mine")
    claim(tmp_path)
    assert (tmp_path / MARK).is_file() and is_run_folder(tmp_path)


@pytest.mark.parametrize(
    "name", ["thesis.docx", "src/a.py", "README.md", ".git/HEAD", "stages/mine.txt", "stages/ingest-1/x", "logs/run.jsonl",
             "trials.csv", "a.yaml.bak"]
)  # fmt: skip
def test_a_folder_with_other_things_is_refused_and_they_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    (tmp_path / "config.yaml").write_text("data: {}")
    first = name.split("/")[0]
    for look in (check_folder, claim):
        with pytest.raises(ConfigError, match=f"holds other files and no run of fairsynth: {first}; .*--out"):
            look(tmp_path)
    assert not (tmp_path / MARK).exists() and not is_run_folder(tmp_path)


@pytest.mark.parametrize(("text", "ours"), [("", True), ('{"pid": 1, "host": "a", "since": 2.5}', True), ("17", False)])
def test_a_lock_that_a_killed_run_left_is_ours_and_another_programs_is_not(
    text: str, ours: bool, tmp_path: Path
) -> None:
    (tmp_path / ".lock").write_text(text)
    if ours:
        claim(tmp_path)
    else:
        with pytest.raises(ConfigError, match="holds other files"):
            claim(tmp_path)


def earlier(root: Path) -> Path:
    """The folder of a run of a version that knew no mark."""
    (root / STAGE).mkdir(parents=True)
    for name in ("report.html", "report.json", "trials.csv"):
        (root / name).write_text("a run's")
    for name in ("adapters", "synthetic", "classifier"):
        (root / name).mkdir()
        (root / name / ".fingerprint").write_text("0123456789abcdef")
    (root / "classifier" / ".fingerprint").rename(root / "classifier" / "config.json")
    (root / "classifier" / "README.md").write_text("trained by fairsynth 0.1.0")
    return root


def test_the_folder_of_an_earlier_version_is_taken_over_with_its_views(tmp_path: Path) -> None:
    claim(earlier(tmp_path))
    assert made(tmp_path) == sorted({*VIEWS} - {"predictions.parquet", "search.png"})
    check_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "harm"), [("classifier", "mine.txt"), ("adapters", ".fingerprint"), ("synthetic", ".fingerprint")]
)
def test_but_not_what_people_put_in_the_place_of_one(name: str, harm: str, tmp_path: Path) -> None:
    file = earlier(tmp_path) / name / harm
    file.unlink() if file.exists() else file.write_text("mine")
    with pytest.raises(ConfigError, match=f"holds {name}, which no run of fairsynth made"):
        claim(tmp_path)
    assert not (tmp_path / MARK).exists()


def test_a_view_is_a_runs_from_when_it_took_the_name(tmp_path: Path) -> None:
    claim(tmp_path)
    take_name(tmp_path, "trials.csv")
    (tmp_path / "trials.csv").write_text("a run's")
    (tmp_path / "report.html").write_text("mine")
    assert made(tmp_path) == ["trials.csv"]
    take_name(tmp_path, "trials.csv")
    with pytest.raises(ConfigError, match=r"report\.html, which no run of fairsynth made"):
        take_name(tmp_path, "report.html")
    with pytest.raises(ConfigError, match=r"report\.html"):
        check_folder(tmp_path)
    (tmp_path / "report.html").unlink()
    check_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"made": 3}', "[" * 100_000])
def test_a_damaged_mark_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / MARK).write_text(text)
    for look in (check_folder, claim):
        with pytest.raises(ConfigError, match=r"\.fairsynth, .* cannot be read; remove it"):
            look(tmp_path)


def test_the_folders_of_a_large_run_are_looked_at_once_and_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = tmp_path / "stages" / "embed-0123456789abcdef" / "units"
    for number in range(600):
        (units / f"lot-{number}").mkdir(parents=True)
    looked, real = list[str](), os.scandir

    def slow(path: str) -> Any:
        looked.append(str(path))
        time.sleep(0.005)  # a network disk
        return real(path)

    monkeypatch.setattr(files.os, "scandir", slow)
    start = time.monotonic()
    check_folder(tmp_path)
    assert time.monotonic() - start < 2 and len(looked) >= 600
    looked.clear()
    claim(tmp_path)
    assert not any("lot-" in path for path in looked)
    (units / "lot-7" / "t.parquet").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match=r"lot-7/t\.parquet is a link"):
        check_folder(tmp_path)
