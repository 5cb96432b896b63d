"""doctor: packages and GPUs are judged by what is there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fairsynth.commands.doctor import machine, packages
from fairsynth.commands.doctor.check import Check
from fairsynth.commands.doctor.machine import (
    Gpu,
    available_memory,
    compiler_check,
    cores,
    gpu_check,
    machine_checks,
    parsed_gpus,
)
from fairsynth.commands.doctor.packages import package_checks, torch_cuda, versions
from fairsynth.config import ModelsConfig
from fairsynth.config.load import load_config
from tests.support.docs.pages import ROOT

DEMO, REAL = load_config(None, "demo"), load_config(None, "waterbirds")
H200 = Gpu("NVIDIA H200", 141 * 2**30, 140 * 2**30, 9.0, "570.86.10")
V100 = Gpu("Tesla V100", 32 * 2**30, 31 * 2**30, 7.0, "550.54.14")


def test_the_tested_versions_are_those_of_the_constraints_for_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split("\n") if "==" in line and " " not in line)  # fmt: skip
    pinned = {name.lower(): version for name, version in pinned.items()}
    needed = [Requirement(line) for line in project["dependencies"]]
    assert {name.lower(): version for name, version in packages.tested().items()} == {r.name.lower(): pinned[r.name.lower()] for r in needed}  # fmt: skip
    assert all(requirement.specifier.contains(pinned[requirement.name.lower()]) for requirement in needed)


def statuses(**changed: str) -> dict[str, tuple[str, str, str]]:
    found = {
        name.replace("-", "_"): version for name, version in (versions() | dict(packages.tested())).items()
    } | changed
    checks = package_checks({name: found[name.replace("-", "_")] for name in versions()})
    return {check.name: (check.status, check.found, check.do) for check in checks}


def test_packages_are_judged_by_their_versions() -> None:
    assert statuses()["packages"][0] == "ok" and statuses()["python"][0] == "ok"
    status, found, do = statuses(torch="")["packages"]
    assert status == "failed" and "torch is not installed" in found and "pip install" in do
    status, found, do = statuses(scipy="9.9.0")["packages"]
    assert (
        status == "warning" and found == f"scipy 9.9.0 (tested: {packages.tested()['scipy']})" and "pip install" in do
    )
    assert statuses(scipy=packages.tested()["scipy"] + ".post7")["packages"][0] == "ok"
    status, found, do = statuses(python="3.9.1")["python"]
    assert (status, found) == ("failed", "3.9.1") and "3.11" in do


def test_gpus_are_read_from_the_tools_lines() -> None:
    table = "NVIDIA H200, 144384, 143360, 9.0, 570.86.10\nTesla K80, 11441, [N/A], [Not Supported], 470.1\nNo devices\n"
    one, other = parsed_gpus(table)
    assert one == Gpu("NVIDIA H200", 144384 * 2**20, 143360 * 2**20, 9.0, "570.86.10")
    assert other.name == "Tesla K80" and other.free == other.capability == 0


@pytest.mark.parametrize(
    ("config", "gpus", "cuda", "status", "told"),
    [
        (DEMO, [], "", "ok", "need none"),
        (REAL, [], "", "warning", "--preset demo"),
        (REAL, [H200], "12.8", "ok", "NVIDIA H200, 141.0 GiB"),
        (REAL, [H200], "", "failed", "install a torch with CUDA"),
        (REAL, [H200, V100], "12.8", "warning", "--models.dtype float32"),
        (REAL, [H200._replace(free=2**30)], "12.8", "warning", "end what else uses it"),
        (DEMO, [H200._replace(free=2**30)], "12.8", "ok", "141.0 GiB"),
    ],
)
def test_gpus_must_suit_the_models(config: object, gpus: list[Gpu], cuda: str, status: str, told: str) -> None:
    check = gpu_check(config, gpus, cuda)  # type: ignore[arg-type]
    assert check.status == status and told in f"{check.found} {check.do}" and bool(check.do) == (status != "ok")


@pytest.mark.parametrize(
    ("given", "free", "told"),
    [
        ({"dtype": "float32"}, 28, "--models.dtype bfloat16 and --finetune.frozen_weights int8"),
        ({"dtype": "float32"}, 32, ""),
        ({}, 16, "take --finetune.frozen_weights int8"),
        ({"frozen": "int8"}, 16, ""),
        # The whole weights are there while images are made.
        ({"frozen": "int8"}, 14, "adapters_at_once and synthesize.unit_size"),
    ],
)
def test_a_gpu_holds_the_network_in_its_format(
    given: dict[str, str], free: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def network_bytes(models: ModelsConfig, frozen_weights: str = "dtype") -> int:
        """Of six billion weights."""
        return 6 * 2**30 if frozen_weights == "int8" else {"float32": 4, "bfloat16": 2}[models.dtype] * 6 * 2**30

    monkeypatch.setattr(machine, "network_bytes", network_bytes)
    settings = {"models.dtype": given.get("dtype", "bfloat16"), "finetune.frozen_weights": given.get("frozen", "dtype")}
    config = load_config(None, "waterbirds", settings)
    check = gpu_check(config, [H200._replace(free=free * 2**30)], "12.8")
    assert check.status == ("warning" if told else "ok") and told in check.do
    assert told or not check.do


def test_a_machine_without_a_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    lacking = compiler_check()
    assert lacking.status == "warning" and "gcc is not there" in lacking.found and "install gcc" in lacking.do
    (tmp_path / "mycc").touch(0o755)
    monkeypatch.setenv("CC", "mycc")
    assert compiler_check() == Check("C compiler", "ok", str(tmp_path / "mycc"))
    names = [check.name for check in machine_checks(DEMO, [H200], "12.8")]
    assert "C compiler" in names and "C compiler" not in [check.name for check in machine_checks(DEMO, [], "")]


def test_this_machine_has_something() -> None:
    import torch

    assert cores() > 0 and available_memory() > 2**20 and torch_cuda() == (torch.version.cuda or "")
