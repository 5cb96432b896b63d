"""The short mode of the chaos harness, what counts as passed, and that what a strike breaks is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import main
from tests.chaos.compared import compared
from tests.chaos.summary import FACTS, digest, figures, passed, text


# Fault cases 47, 51, 52: a killed worker, driver or head, and the same command again.
def run_of(**changed: Any) -> dict[str, Any]:
    """A whole run as the results have it: struck once, called twice."""
    strikes = [{"kind": "worker", "attempt": 0, "after": 9.5, "victims": ["ray::_UnitActor"]}]
    attempts = [
        {"code": code, "seconds": 20.0, "after_last_strike": since, "said": "", "wrong": [], "left": []}
        for code, since in ((-9, 0.3), (0, None))
    ]
    usual = {"lost": [], "double": [], "repeated": {}, "differences": [], "litter": [], "finished": True}
    return {"name": "run-0", "strikes": strikes, "attempts": attempts} | usual | changed


def results_of(*runs: dict[str, Any]) -> dict[str, Any]:
    head = dict.fromkeys(FACTS, "-")
    return head | {"places": {"disk": {"workers": 1, "runs": list(runs)}}}


def test_a_run_that_lost_nothing_passes() -> None:
    results = results_of(run_of(repeated={"embed-1/u-0": 1}), run_of())
    assert passed(results) and text(results).endswith("passed")
    found = figures(results["places"]["disk"])
    assert digest(results)["places"]["disk"].items() >= found.items() and digest(results)["passed"]
    assert found["whole runs"] == 2 and found["strikes"] == 2 and found["exit codes"] == {"-9": 2, "0": 2}
    assert found["units begun again"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"lost": ["stages/embed-1/units/u-0"]},
        {"double": ["stages/embed-1/units/u-0"]},
        {"differences": ["differs: report.json"]},
        {"finished": False},
        {"strikes": [{"kind": "hung", "attempt": 0, "after": 1800.0, "victims": []}]},
        {"repeated": {"embed-1/u-0": 1, "embed-1/u-1": 1}},
    ],
)
def test_a_run_that_lost_something_does_not(wrong: dict[str, Any]) -> None:
    results = results_of(run_of(), run_of()) if "repeated" not in wrong else results_of()
    results["places"]["disk"]["runs"].append(run_of(**wrong))
    assert not passed(results) and text(results).endswith("FAILED")


def test_nothing_done_is_not_passed() -> None:
    assert not passed({"places": {}})


@pytest.mark.slow
def test_struck_again_and_again_a_run_ends_as_if_nothing_had_happened(finished_run: Path, tmp_path: Path) -> None:
    words = ["--short", "--strikes", "4", "--per-run", "4", "--gap", "6", "14", "--seed", "4"]
    code = main([*words, "--undisturbed", str(finished_run), "--out", str(tmp_path)])
    results = json.loads((tmp_path / "chaos.json").read_text("utf-8"))
    assert code == 0, (tmp_path / "chaos.txt").read_text("utf-8")
    (run,) = results["places"]["disk"]["runs"]
    assert run["strikes"], "the strikes came too late to test anything"


def test_a_private_name_is_no_difference_and_any_other_is(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for out in (one, other):
        (out / "stages" / "cluster-1").mkdir(parents=True)
    left = f".artifact.json.{'0a' * 16}"
    (other / "stages" / "cluster-1" / left).write_text("{}")
    assert compared(one, other) == ([], [f"only in {other}: cluster-1/{left}"])
    assert compared(other, one) == ([f"only in {other}: cluster-1/{left}"], [])
    (other / "stages" / "cluster-1" / "clusters.parquet").write_text("rows")
    assert compared(one, other)[0] == [f"only in {other}: cluster-1/clusters.parquet"]
