"""``import fairsynth``: what it names, that nothing heavy comes with it, and that each name says how it is used."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import os
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

import fairsynth as fs
from tests.support.structure import ROOT

HEAVY = ("cyclopts", "jinja2", "numpy", "pandas", "PIL", "pyarrow", "pydantic", "ray", "torch", "transformers", "yaml")
ERRORS = {
    "BudgetReached",
    "ConfigError",
    "DamagedError",
    "DataError",
    "DivergedError",
    "Exhausted",
    "FairsynthError",
    "InfrastructureError",
    "OutputLockedError",
    "TakenOverError",
}


def python(code: str) -> object:
    """What a new process prints as JSON."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


LOADED = f"print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"


def test_importing_imports_nothing_heavy() -> None:
    assert python(f"import json, sys, fairsynth as fs; fs.ConfigError, fs.__version__, dir(fs); {LOADED}") == []


@pytest.mark.slow
def test_opening_needs_no_models_and_no_ray() -> None:
    found = python(f"import json, sys, fairsynth as fs; fs.open_run, fs.Run; {LOADED}")
    assert isinstance(found, list) and not {"ray", "torch", "transformers", "cyclopts"} & {*found}


def test_the_public_names_are_sorted_and_all_there() -> None:
    public = [name for name in fs.__all__ if not name.startswith("_")]
    classes = [name for name in public if name[0].isupper()]
    assert public == sorted(classes) + sorted({*public} - {*classes})
    assert dir(fs) == fs.__all__ and len({*fs.__all__}) == len(fs.__all__)
    assert all(getattr(fs, name) is not None for name in fs.__all__)
    told = {name for names in fs._PLACES.values() for name in names}
    assert told | ERRORS | {"__version__"} == {*fs.__all__} and not told & ERRORS


def test_type_checkers_see_the_same_names() -> None:
    typed = [line.split(" import ") for line in _typed_imports()]
    names = {name.strip(" ,()") for _, names in typed for name in names.split(",")} - {""}
    assert names | {"__version__"} == {*fs.__all__}
    assert (resources.files("fairsynth") / "py.typed").is_file()
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    assert "py.typed" in data["fairsynth"]


def _typed_imports() -> list[str]:
    block = Path(fs.__file__).read_text("utf-8").split("if TYPE_CHECKING:\n")[1].split("\n\n")[0]
    return " ".join(block.split()).replace("from ", "\n").split("\n")[1:]


def test_errors_are_those_of_the_error_tree() -> None:
    errors = importlib.import_module("fairsynth.errors")
    assert {name for name, value in vars(errors).items() if isinstance(value, type)} == ERRORS
    assert all(getattr(fs, name) is getattr(errors, name) for name in ERRORS)


def test_a_misspelt_name_gets_a_guess() -> None:
    with pytest.raises(AttributeError, match="no attribute 'open_rnu'; did you mean 'open_run'"):
        fs.open_rnu  # noqa: B018
    with pytest.raises(ImportError):
        exec("from fairsynth import nothing_like_it", {})
    assert not hasattr(fs, "__wrapped__")


@pytest.mark.parametrize("name", sorted({*fs.__all__} - ERRORS - {"__version__", "RunConfig", "Group", "AdapterKey"}))
def test_what_is_public_is_documented_with_an_example(name: str) -> None:
    public = getattr(fs, name)
    assert ">>> " in (public.__doc__ or "")
    if inspect.isclass(public):
        own = [value for key, value in vars(public).items() if key[0] != "_" and (callable(value) or _property(value))]
        assert all(inspect.getdoc(member) for member in own)


def _property(value: object) -> bool:
    return isinstance(value, property) or type(value).__name__ == "cached_property"


@pytest.mark.parametrize("module", ["report", "classifier"])
def test_examples_that_need_no_run_are_right(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"fairsynth.api.{module}"))
    assert result.attempted and not result.failed


def test_the_version_is_that_of_the_package() -> None:
    assert fs.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert os.fspath(ROOT) in fs.__file__
