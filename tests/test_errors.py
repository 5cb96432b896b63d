"""Errors that people see: each has a sentence of its own, and commands answer for help at once."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from fairsynth import errors
from fairsynth.cli import STAGES, app
from fairsynth.errors import FairsynthError
from tests.support.docs.pages import ROOT

CLASSES = {
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, FairsynthError)
}
FEWEST_WORDS = 4


def wrong_raises(source: str) -> Iterator[str]:
    """Errors for people that are raised without a sentence; a message that is passed on from elsewhere is one."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Raise):
            continue
        if isinstance(node.exc, ast.Name) and node.exc.id in CLASSES:
            yield f"line {node.lineno}: {node.exc.id} without a message"
        if (
            not isinstance(node.exc, ast.Call)
            or not isinstance(node.exc.func, ast.Name)
            or node.exc.func.id not in CLASSES
        ):
            continue
        message = node.exc.args[0] if node.exc.args else ast.Constant("")
        if isinstance(message, ast.Constant | ast.JoinedStr) and len(_told(message).split()) < FEWEST_WORDS:
            yield f"line {node.lineno}: {ast.unparse(message)}"


def _told(message: ast.expr) -> str:
    """The text, with two words in place of each value."""
    if isinstance(message, ast.Constant):
        return str(message.value)
    assert isinstance(message, ast.JoinedStr)
    return "".join(map(_part, message.values))


def _part(part: ast.expr) -> str:
    """An error that is told in another one brings its sentence along."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    return (
        "what it says of itself"
        if isinstance(part, ast.FormattedValue) and ast.unparse(part.value) == "error"
        else "some value"
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "fairsynth").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_error_for_people_has_a_sentence(path: object) -> None:
    assert list(wrong_raises(path.read_text("utf-8"))) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "source",
    [
        "raise DataError('bad')",
        "raise ConfigError",
        "raise DataError()",
        "raise ConfigError(f'{x}')",
        "raise ConfigError('')",
    ],
)
def test_an_error_without_a_sentence_is_found(source: str) -> None:
    assert len(list(wrong_raises(source))) == 1
    assert (
        list(
            wrong_raises("raise DataError(f'{x} has no images; give some')\nraise DataError(text)\nraise KeyError('x')")
        )
        == []
    )


def _seconds(*words: str, most: float = 0.0) -> float:
    """The shortest of up to three starts, for the machine may be busy; one that takes no more than ``most`` is enough."""
    times: list[float] = []
    while len(times) < 3 and (not times or min(times) > most):
        began = time.monotonic()
        done = subprocess.run([sys.executable, *words], capture_output=True, cwd=ROOT, timeout=120, check=False)
        times.append(time.monotonic() - began)
        assert done.returncode == 0, done.stderr
    return min(times)


@pytest.mark.slow
def test_help_comes_at_once() -> None:
    """Not 0.5 s, which a busy machine does not keep, but a multiple of what Python and the parser take alone."""
    most = 0.5 + 3 * _seconds("-c", "import cyclopts, rich.console")
    # The stages have one command in common.
    names = ["", *(name for name in app if name[0] != "-" and name not in STAGES[1:])]
    taken = {name: _seconds("-m", "fairsynth.cli", *filter(None, [name]), "--help", most=most) for name in names}
    assert {name: seconds for name, seconds in taken.items() if seconds > most} == {}


def test_no_command_imports_anything_heavy_for_its_help() -> None:
    code = """
import contextlib, io, sys
from fairsynth.cli import app, main
with contextlib.redirect_stdout(io.StringIO()):
    codes = [main([*([name] if name else []), "--help"]) for name in ("", *(n for n in app if n[0] != "-"))]
heavy = {"torch", "ray", "numpy", "pyarrow", "pydantic", "yaml", "transformers", "matplotlib"} & sys.modules.keys()
assert not any(codes) and not heavy, (codes, heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
