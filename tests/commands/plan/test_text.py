"""What a person sees: 80 columns, hostile names as text, units that people use."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fairsynth.commands.plan.text import duration
from fairsynth.exhausted import amount
from fairsynth.models.sources import demo_folder
from tests.support.calling import call
from tests.support.data.planning import waterbirds
from tests.support.datasets import write_rows

HOSTILE = ("\x1b[31mred", "a" * 40)


def shown(*words: str | Path) -> list[str]:
    code, text, err = call("plan", *words)
    assert (code, err) == (0, ""), err
    return text.splitlines()


def test_a_plan_fits_a_terminal(tmp_path: Path) -> None:
    birds = waterbirds(tmp_path / "birds")
    lines = shown("--preset", "waterbirds", "--data.root", birds, "--out", "out", "--price-per-hour", "1000")
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "  (0, 1): landbird, water" in text and "CreativeML" in text and "OpenRAIL-M" in text
    assert "to be confirmed" in " ".join(text.split())


def test_the_memory_of_a_network_that_is_here_is_told(tmp_path: Path) -> None:
    shutil.copytree(demo_folder("diffusion"), tmp_path / "base")
    words = ["--preset", "demo", "--models.diffusion", tmp_path / "base", "--out", tmp_path / "out"]
    plain, rounded = (
        " ".join(" ".join(shown(*words, *more)).split()) for more in ([], ["--finetune.frozen_weights", "int8"])
    )
    assert " for the network's weights; adapters and images come on top" in plain
    assert " for the network's weights, " in rounded and " while adapters train; " in rounded
    assert "for the network's weights" not in " ".join(shown("--preset", "demo", "--out", tmp_path / "out"))


def test_what_is_exact_before_an_image_was_opened_is_said_under_a_condition(tmp_path: Path) -> None:
    unopened = "a number alone is exact, unless images cannot be read or are there twice"
    birds = waterbirds(tmp_path / "birds")
    assert unopened in " ".join(" ".join(shown("--preset", "waterbirds", "--data.root", birds)).split())
    assert unopened not in " ".join(" ".join(shown("--preset", "demo", "--out", tmp_path / "out")).split())


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    rows = [
        (f"{split}{y}{a}{i}.png", y, a, split)
        for split in ("train", "val", "test")
        for y in HOSTILE
        for a in ("\u202eup", "down")
        for i in range(10)
    ]
    (tmp_path / "set").mkdir()
    write_rows(tmp_path / "set" / "metadata.csv", ("file_name", "label", "attribute", "split"), rows)
    lines = shown(
        "--preset",
        "demo",
        "--data.format",
        "folder",
        "--data.root",
        tmp_path / "set",
        "--out",
        "out",
        "--cluster.k",
        "2",
    )
    assert all(line.isprintable() for line in lines)
    assert any("?[31mred" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59, "59 s"), (61, "1.0 min"), (504, "8.4 min"), (3600, "1.0 h"), (40 * 3600, "40 h"), (48 * 3600, "2.0 d")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (34e9, "34 GB"), (5.7e12, "5.7 TB")]
)
def test_sizes(size: float, text: str) -> None:
    assert amount(size) == text
