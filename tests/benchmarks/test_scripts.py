"""The benchmarks are scripts that stand alone: each tells its command, and none imports another."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.support.structure import ROOT, imports

FOLDER = ROOT / "benchmarks"
# What scripts share, beside what lies in folders.
LIBRARIES = ("common", "judging")
SOURCES = {path.stem: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.py"))}
SCRIPTS = [name for name in SOURCES if name not in LIBRARIES]
# All helps in one process: torch and the like are imported once.
HELPS = """
import contextlib, io, json, runpy, sys

folder, names, helps = sys.argv[1], sys.argv[2:], {}
sys.path.insert(0, folder)
for name in names:
    sys.argv, printed = [f"{name}.py", "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(f"{folder}/{name}.py", run_name="__main__")
        helps[name] = ["it went on", printed.getvalue()]
    except SystemExit as end:
        helps[name] = [end.code, printed.getvalue()]
    except Exception as error:
        helps[name] = [repr(error), printed.getvalue()]
ray = sys.modules.get("ray")
print(json.dumps({"helps": helps, "ray started": bool(ray and ray.is_initialized())}))
"""


def foreign(name: str, source: str) -> list[str]:
    """What a module imports from benchmarks that is not a library."""
    found = {other.removeprefix("benchmarks.").split(".")[0] for other in imports(name, source)}
    return sorted(found & {*SOURCES} - {*LIBRARIES})


def command_of(name: str, source: str) -> list[str]:
    """The words of the command that a script's docstring tells; none if it tells none."""
    docstring = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    command = re.search(rf"``(python benchmarks/{name}\.py[^`]*)``", docstring)
    return shlex.split(re.sub(r"[\[\]]", "", command[1])) if command else []


def runs_something(source: str) -> bool:
    """Whether a module does work when it is run as a script."""
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in ast.parse(source).body
    )


@pytest.fixture(scope="module")
def outcome() -> dict[str, object]:
    """Exit code and text of ``--help`` of every script, and whether any of them started Ray."""
    done = subprocess.run(
        [sys.executable, "-c", HELPS, str(FOLDER), *SCRIPTS],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SOURCES)
def test_no_script_is_imported(name: str) -> None:
    assert foreign(name, SOURCES[name]) == []


@pytest.mark.parametrize(
    "source",
    [
        "from stacked_vs_peft import machine",
        "import generators",
        "def f():\n    from benchmarks.generators import groups_of",
        "import importlib\nloop = importlib.import_module('generate_vs_loop')",
    ],
)
def test_an_import_of_a_script_is_found(source: str) -> None:
    assert foreign("million_rows", source)
    assert not foreign("million_rows", "from common import machine\nfrom fairsynth.config import load")


@pytest.mark.parametrize("name", SOURCES)
def test_scripts_run_and_libraries_do_not(name: str) -> None:
    assert runs_something(SOURCES[name]) == (name in SCRIPTS)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_says_that_it_is_one(name: str) -> None:
    assert "\nA library" in (ast.get_docstring(ast.parse(SOURCES[name])) or "")
    assert [user for user in SCRIPTS if name in {other.split(".")[0] for other in imports(user, SOURCES[user])}]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_help_works_and_knows_what_the_docstring_tells(
    name: str, outcome: dict[str, dict[str, tuple[object, str]]]
) -> None:
    code, text = outcome["helps"][name]
    command = command_of(name, SOURCES[name])
    assert code == 0, text
    assert command[:2] == ["python", f"benchmarks/{name}.py"]
    options = set(re.findall(r"^  (--[\w-]+)", text, re.MULTILINE))
    assert {word for word in command if word.startswith("--")} <= options


def test_help_starts_no_ray(outcome: dict[str, object]) -> None:
    assert outcome["ray started"] is False
