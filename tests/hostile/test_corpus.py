"""Every hostile input is refused, or passes, within bounds; a few of each kind in every run of the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairsynth.data.samples import spread
from tests.hostile.cases import Case
from tests.hostile.corpus import KINDS, all_cases
from tests.hostile.running import Outcome, Runner, runner, table

CASES = all_cases()
# Those that write much before they begin, or need torch, are left to the slow tests.
_LIGHT = [case for case in CASES if not case.torch and "million" not in case.name and " MB" not in case.name]
SAMPLE = {case.id for case in spread(_LIGHT, 40)}


@pytest.fixture(scope="module")
def attempt(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Runner, list[Outcome]]]:
    """Runs a case; at the end the results are printed by kind."""
    base, outcomes = tmp_path_factory.mktemp("hostile"), list[Outcome]()
    with runner(base, base / "run") as running:
        yield running, outcomes
    manager = request.config.pluginmanager.getplugin("capturemanager")
    if outcomes and manager is not None:
        with manager.global_and_fixture_disabled():
            print(f"\n{table(outcomes)}")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.id, marks=() if case.id in SAMPLE else pytest.mark.slow) for case in CASES],
)
def test_a_hostile_input_does_no_harm(case: Case, attempt: tuple[Runner, list[Outcome]]) -> None:
    running, outcomes = attempt
    if case.torch and not Path(running.run_folder).exists():
        from tests.support.models.classifiers import put_run

        put_run(running.run_folder, ["cat", "dog"])
    outcomes.append(running(case))
    assert outcomes[-1].wrong == [], outcomes[-1].told()


def test_there_are_enough_and_each_has_its_name() -> None:
    names = Counter(case.id for case in CASES)
    assert [name for name, n in names.items() if n > 1] == []
    assert len(CASES) >= 150
    assert len(SAMPLE) == 40 and {case.kind for case in CASES if case.id in SAMPLE} >= {
        "YAML",
        "tar",
        "Parquet",
        "images",
    }
    assert len(KINDS) >= 9
