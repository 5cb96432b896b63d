"""The notebooks of examples/ hold what their cells put out, nothing of the machine that they ran on, and still run."""

from __future__ import annotations

import ast
import getpass
import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_output

from fairsynth.pipeline import STAGES
from tests.support.docs.pages import ROOT, links

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
MOST_BYTES = 1024 * 1024
# Folders of this machine's, or of anyone's.
PLACES = re.compile(r"(?<![\w.])/(?:home|root|Users|tmp|work|var|opt|usr|private|mnt)/|[A-Z]:\\\\Users")


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def texts(value: Any) -> list[str]:
    """All text in a cell's outputs but that of pictures."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, one in value.items() if not key.startswith("image/") for text in texts(one)]
    return [text for one in value for text in texts(one)] if isinstance(value, list) else []


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["demo", "own_folder"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_was_executed_from_top_to_bottom_without_errors(path: Path) -> None:
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds and len(outputs) > len(cells) // 2
    told = "\n".join(texts(outputs))
    assert "verdict: " in told and all(re.search(rf"^{name} ", told, re.MULTILINE) for name in STAGES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_small_and_tells_nothing_of_a_machine(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    for text in texts([*read(path).cells, dict(read(path).metadata)]):
        assert not PLACES.search(text), text
        assert " at 0x" not in text and "\x1b" not in text, text
    told = "\n".join(texts([cell.get("outputs", []) for cell in read(path).cells]))
    assert "\tINFO " not in told and "Traceback" not in told
    assert socket.gethostname() not in told and f"/{getpass.getuser()}/" not in told and str(ROOT) not in told


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_links_lead_somewhere(path: Path) -> None:
    prose = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert all((EXAMPLES / link.partition("#")[0]).is_file() for link in links(prose) if "://" not in link)
    assert prose.startswith("# ") and prose.split("\n\n")[1].endswith("?")


@pytest.mark.parametrize("text", ["see /home/ann/x", "/root/a", "in (/tmp/x)", "C:\\\\Users"])
def test_a_path_is_found(text: str) -> None:
    assert PLACES.search(text) and not PLACES.search("runs/own/run ../runs/home/x and/or a/usr/b")


def test_streams_are_joined_without_what_ray_logs_and_all_else_stays() -> None:
    shown = runpy.run_path(str(EXAMPLES / "execute.py"), run_name="execute")["_shown"]
    log = "2026-11-29 17:53:40,626\tINFO util.py:155 -- Missing packages: ['ipywidgets'].\n"
    pieces = [
        ("stdout", "tune  2"),
        ("stderr", log[:30]),
        ("stderr", log[30:]),
        ("stdout", " trials\n"),
        ("stderr", "slow\n"),
    ]
    outputs = [new_output("stream", name=name, text=text) for name, text in pieces]
    outputs.append(new_output("display_data", {"image/png": "p", "image/jpeg": "j", "text/plain": "an image"}))
    *streams, picture = shown(outputs)
    assert [(one.name, one.text) for one in streams] == [("stdout", "tune  2 trials\n"), ("stderr", "slow\n")]
    assert picture.data == {"image/png": "p", "text/plain": "an image"}


@pytest.mark.slow
def test_the_demos_cells_work_on_another_run(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All cells but the first, which would make the demo anew; the small run stands in for it."""
    import fairsynth as fs

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(finished_run)
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path / "examples")
    first, *cells = (cell.source for cell in code_cells(EXAMPLES / "demo.ipynb"))
    assert first.endswith('run = fs.run("demo", out="../runs/demo")')
    names: dict[str, Any] = {"fs": fs, "run": fs.open_run("../runs/demo")}
    for cell in cells:
        *steps, last = ast.parse(cell).body
        exec(compile(ast.Module([*steps], []), "a cell", "exec"), names)
        shown = (
            eval(compile(ast.Expression(last.value), "a cell", "eval"), names) if isinstance(last, ast.Expr) else None
        )
        if not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), "a cell", "exec"), names)
        assert not hasattr(shown, "_repr_html_") or shown._repr_html_()
    assert names["image"].size == (32, 32) and len(names["seen"]) == 3


@pytest.mark.slow
def test_one_can_be_executed_again(tmp_path: Path) -> None:
    """The folder's notebook, with fewer images and steps: its dataset, inspect, a whole run, predictions."""
    notebook = read(EXAMPLES / "own_folder.ipynb")
    smaller = [('"train": 100, "val": 25, "test": 45', '"train": 24, "val": 20, "test": 10'), ("RARE = 5", "RARE = 3")]
    smaller += [
        ('"steps": 20', '"steps": 2'),
        ('"class_images": 16', '"class_images": 4'),
        ('"steps": 60', '"steps": 2'),
    ]
    smaller += [
        ('"per_group": 64, "steps": 8', '"per_group": 8, "steps": 2, "trial_images": 4'),
        ('"trials": 2', '"trials": 1'),
    ]
    smaller += [('"evaluate": {"seeds": 2}', '"evaluate": {"seeds": 1}'), ('_epochs": 8', '_epochs": 1')]
    for old, new in smaller:
        (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and old in cell.source)
        cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, tmp_path / "own_folder.ipynb")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, EXAMPLES / "execute.py", tmp_path / "own_folder.ipynb", "--to", tmp_path / "there"],
        capture_output=True, text=True, timeout=900, check=False, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert result.returncode == 0 and result.stdout.startswith("own_folder.ipynb: "), result.stderr[-3000:]
    told = "\n".join(texts([cell.outputs for cell in code_cells(tmp_path / "there" / "own_folder.ipynb")]))
    # Nothing in a notebook takes the place of what the first stages have said.
    assert "ingest     168 images" in told
    assert "verdict: " in told and "12 images in runs/own/seen.csv" in told and str(tmp_path) not in told
    assert (tmp_path / "there" / "runs" / "own" / "run" / "classifier" / "model.safetensors").is_file()
