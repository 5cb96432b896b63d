"""Which module may import which, how large things may be, and what nobody may do; tests/test_rules_bite.py shows each rule to bite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fairsynth import artifacts, cli
from tests.support.architecture import (
    cycles,
    engine_that_knows_the_work,
    imports_from_above,
    order_of_stages,
    place_in_stages,
    ray_outside_the_engine,
    science_that_knows_the_pipeline,
    second_doors_to_the_engine,
    stages_of_each_other,
    text_without_encoding,
    unsafe_reading,
)
from tests.support.structure import (
    ROOT,
    SOURCES,
    file_lengths,
    files_per_folder,
    function_lengths,
    imports,
    own_imports,
)

MOST_FILES, MOST_LINES, MOST_FUNCTION_LINES, MOST_IMPORTS, MEDIAN_IMPORTS = 20, 300, 50, 15, 4
Rule = Callable[[str, str], list[str]]


@pytest.mark.parametrize(
    "rule",
    [
        ray_outside_the_engine,
        engine_that_knows_the_work,
        second_doors_to_the_engine,
        science_that_knows_the_pipeline,
        stages_of_each_other,
        imports_from_above,
        unsafe_reading,
        text_without_encoding,
    ],
)
def test_the_project_keeps_the_rule(rule: Rule) -> None:
    assert [problem for module, source in SOURCES.items() for problem in rule(module, source)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=str)
def test_benchmarks_open_no_text_in_the_locales_encoding(path: Path) -> None:
    assert text_without_encoding(path.stem, path.read_text("utf-8")) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: own_imports(module, source) for module, source in SOURCES.items()}
    assert cycles(graph) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_every_stage_has_its_package() -> None:
    folders = {place[0] for module in SOURCES if (place := place_in_stages(module))}
    assert folders == set(order_of_stages())
    assert order_of_stages() == list(artifacts.STAGES) == list(cli.STAGES)
    assert all(f"fairsynth.stages.{stage}.step" in SOURCES for stage in folders)


def test_nothing_is_too_large() -> None:
    assert {folder: n for folder, n in files_per_folder(ROOT).items() if n > MOST_FILES} == {}
    assert {name: n for name, n in file_lengths(ROOT).items() if n > MOST_LINES} == {}
    assert {
        name: max(ns)
        for name, source in SOURCES.items()
        if max(ns := [0, *function_lengths(source)]) > MOST_FUNCTION_LINES
    } == {}


def test_no_module_knows_too_many_others() -> None:
    fans = {name: len(own_imports(name, source)) for name, source in SOURCES.items() if source.strip()}
    assert {name: n for name, n in fans.items() if n > MOST_IMPORTS} == {}
    assert sorted(fans.values())[len(fans) // 2] <= MEDIAN_IMPORTS


def test_lengths_are_counted() -> None:
    assert function_lengths("def f():\n    '''Doc.'''\n    return 1\n\n@g\nasync def h():\n    pass") == [3, 2]


def test_the_walk_sees_the_project() -> None:
    expected = {
        "fairsynth",
        "fairsynth.cli",
        "fairsynth.engine.session",
        "fairsynth.stages.ingest.step",
        "jobs.pipeline",
    }
    assert expected <= SOURCES.keys()
    # Were the walk blind to imports inside functions, it would miss that the engine uses ray at all.
    assert any(
        name.split(".")[0] == "ray" for name in imports("fairsynth.engine.session", SOURCES["fairsynth.engine.session"])
    )
