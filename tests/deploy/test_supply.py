"""What is installed: floors with a reason, pins above them, and the look-up among known vulnerabilities."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.deploy.files import ROOT, pins

FLOORS = {
    "torch": "2.6",
    "pyarrow": "14.0.1",
    "pyyaml": "5.4",
    "jinja2": "3.1.6",
    "pillow": "12",
    "numpy": "2",
    "safetensors": "0.4",
}
AUDIT = ROOT / ".ci" / "audit.py"
_FAKE = """import json, os, sys
service = sys.argv[sys.argv.index("--vulnerability-service") + 1]
given = json.loads(os.environ["ANSWERS"]).get(service)
if given is None:
    sys.exit("ConnectionError: nobody answers")
known, vulnerable = given
packages = [line.strip().split("==") for line in sys.stdin if "==" in line]
dependencies = [
    {"name": name, "version": version, "vulns": [{"id": "X-1", "fix_versions": ["99"]}] if name in vulnerable else []}
    if known == "all" or name in known else {"name": name, "skip_reason": "not found"}
    for name, version in packages
]
print(json.dumps({"dependencies": dependencies, "fixes": []}))
sys.exit(bool(vulnerable))
"""


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {each.name: each for each in map(Requirement, project["dependencies"])}


@pytest.mark.parametrize("name", FLOORS)
def test_what_reads_foreign_files_has_a_floor(name: str) -> None:
    (floor,) = [each.version for each in requirements()[name].specifier if each.operator == ">="]
    assert Version(floor) >= Version(FLOORS[name])


def test_every_pin_satisfies_its_floor() -> None:
    known = {name.lower().replace("_", "-"): version for name, version in pins().items()}
    wanted = requirements()
    assert [name for name, each in wanted.items() if not each.specifier.contains(known[name.lower()])] == []


def audit(tmp_path: Path, answers: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    """The script, with a pip-audit that says what its services would."""
    (tmp_path / "pip_audit.py").write_text(_FAKE, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "ANSWERS": json.dumps(answers)}
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        [sys.executable, str(AUDIT), *words], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_known_vulnerability_ends_the_audit(tmp_path: Path) -> None:
    done = audit(tmp_path, {"osv": ["all", ["pillow"]]})
    assert done.returncode == 1 and f"pillow {pins()['pillow']}: X-1; mended in 99" in done.stderr


def test_packages_that_are_looked_up_are_counted_and_the_others_named(tmp_path: Path) -> None:
    every = [name for name in pins() if name != "torch"]
    done = audit(tmp_path, {"osv": [every, []]})
    assert done.returncode == 0 and f"{len(pins()) - 1} of {len(pins())} pinned packages" in done.stdout
    assert "not known to osv: torch" in done.stdout


def test_the_second_service_is_asked_where_the_first_is_silent(tmp_path: Path) -> None:
    done = audit(tmp_path, {"pypi": ["all", ["ray"]]})
    assert done.returncode == 1 and "ray" in done.stderr


@pytest.mark.parametrize(("words", "code"), [((), 0), (("--must",), 1)])
def test_where_nobody_answers_it_says_that_nothing_was_checked(
    words: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    # pip-audit itself calls it a success where an index knows none of the packages.
    done = audit(tmp_path, {"pypi": [[], []]}, *words)
    assert done.returncode == code and "NOT CHECKED" in done.stderr and "ok" not in done.stdout
