"""Python and the packages: which are there, which fairsynth needs, and which it was tested with."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from fairsynth.commands.doctor.check import Check

_LEAST_PYTHON = (3, 11)
# Those that must be equal on all nodes of a cluster: they send each other Python objects.
EQUAL = ("python", "ray", "fairsynth", "torch", "pyarrow")


@cache
def tested() -> Mapping[str, str]:
    """The versions of its own dependencies that fairsynth was tested with: those of constraints.txt."""
    text = (resources.files("fairsynth") / "commands" / "doctor" / "tested.txt").read_text("utf-8")
    return dict(line.split("==") for line in text.split())  # type: ignore[arg-type]


def versions() -> dict[str, str]:
    """What is installed, by name; empty for what is not there."""
    found = {"python": ".".join(map(str, sys.version_info[:3])), "fairsynth": _installed("fairsynth") or _own()}
    return found | {name: _installed(name) for name in tested()}


def _own() -> str:
    from fairsynth.version import __version__

    return __version__


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def package_checks(found: Mapping[str, str]) -> Iterator[Check]:
    """Python is new enough; every package is there, allowed, and of a version that was tested."""
    yield _python(found["python"])
    absent = [name for name in tested() if not found[name]]
    refused = [f"{name} {found[name]} (needed: {spec})" for name, spec in _needed() if found.get(name) and not _fits(found[name], spec)]  # fmt: skip
    other = [f"{name} {found[name]} (tested: {version})" for name, version in tested().items()
             if found[name] and _series(found[name]) != _series(version)]  # fmt: skip
    if absent or refused:
        what = [f"{name} is not installed" for name in absent] + refused
        yield Check(
            "packages", "failed", "; ".join(what), "install what fairsynth needs: pip install -c constraints.txt -e ."
        )
    elif other:
        do = "if something fails that should not, install the tested versions: pip install -c constraints.txt -e ."
        yield Check("packages", "warning", "; ".join(other), do)
    else:
        shown = ", ".join(f"{name} {found[name]}" for name in ("ray", "torch", "diffusers", "transformers"))
        yield Check("packages", "ok", f"{shown} and {len(tested()) - 4} others, as tested")


def _python(version: str) -> Check:
    least = ".".join(map(str, _LEAST_PYTHON))
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_PYTHON:
        return Check("python", "failed", version, f"make an environment with Python {least} or newer")
    return Check("python", "ok", version)


def _needed() -> Iterator[tuple[str, str]]:
    """Names and allowed versions, as the installed package states them; none if it runs from its source alone."""
    try:
        lines = metadata.requires("fairsynth") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name, str(requirement.specifier)


def _fits(version: str, allowed: str) -> bool:
    return Requirement(f"x{allowed}").specifier.contains(version, prereleases=True)


def _series(version: str) -> tuple[int, ...]:
    try:
        return Version(version).release[:2]
    except InvalidVersion:
        return ()


def torch_cuda() -> str:
    """The CUDA version that torch was built for, without importing it; empty for a build without GPUs."""
    spec = find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    try:
        text = file.read_text("utf-8") if file else ""
    except OSError:
        return ""
    built = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", text, re.MULTILINE)
    return built[1] if built else ""
