"""Which module may import which, how large things may be, and what nobody may do: by paths alone, and each rule shown to bite."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

import pytest

from tests.support.structure import (
    PACKAGES,
    ROOT,
    SOURCES,
    file_lengths,
    files_per_folder,
    function_lengths,
    imports,
    own,
    own_imports,
)

# From the ground up: what lies in a folder of the package (or is a file at its top) imports from its own layer and from
# those below. Files at the top that no layer names are words and types.
WORDS = "words and types"
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "config"),
    (WORDS,),
    ("data", "models"),
    ("engine", "classify", "exports", "demo"),
    ("stages",),
    ("pipeline", "preflight"),
    ("commands",),
    ("cli",),
    ("jobs",),
)
# What stage packages share, and what of a stage package other stages may import.
SHARED, FACES = ("context", "stage", "views"), ("output", "view")
# Reading with these can run code that somebody else wrote.
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
MOST_FILES, MOST_LINES, MOST_FUNCTION_LINES, MOST_IMPORTS, MEDIAN_IMPORTS = 20, 300, 50, 15, 4


def layer(module: str) -> int:
    """Height of the module's layer, by the folder that it lies in."""
    package, _, rest = module.partition(".")
    place = package if package == "jobs" else rest.partition(".")[0] or "errors"
    heights = {name: height for height, names in enumerate(LAYERS) for name in names}
    if place not in heights and f"fairsynth.{place}" in PACKAGES:
        raise AssertionError(f"the folder {place} has no layer; give it one in LAYERS")
    return heights.get(place, heights[WORDS])


def place_in_stages(module: str) -> tuple[str, str] | None:
    """The stage package that a module lies in, and its name there; None if it lies in none."""
    parts = module.split(".")
    if parts[:2] != ["fairsynth", "stages"] or len(parts) < 3 or parts[2] in SHARED:
        return None
    return parts[2], ".".join(parts[3:])


def order_of_stages() -> list[str]:
    """The stages' names in their order, as ``fairsynth.pipeline`` has them."""
    from fairsynth.pipeline import STAGES

    return list(STAGES)


def ray_outside_the_engine(module: str, source: str) -> list[str]:
    """Only fairsynth.engine imports ray."""
    if module == "fairsynth.engine" or module.startswith("fairsynth.engine."):
        return []
    return [f"{module} imports {name}" for name in imports(module, source) if name.split(".")[0] == "ray"]


def engine_that_knows_the_work(module: str, source: str) -> list[str]:
    """The engine runs callables: it knows no stage, no classifier, no dataset."""
    if not f"{module}.".startswith("fairsynth.engine."):
        return []
    known = tuple(f"fairsynth.{name}." for name in ("stages", "classify", "exports", "data", "commands"))
    return [f"{module} imports {other}" for other in own_imports(module, source) if f"{other}.".startswith(known)]


def second_doors_to_the_engine(module: str, source: str) -> list[str]:
    """Inside stages/ only the context imports the engine."""
    if not module.startswith("fairsynth.stages.") or module == "fairsynth.stages.context":
        return []
    return [
        f"{module} imports {other}"
        for other in own_imports(module, source)
        if f"{other}.".startswith("fairsynth.engine.")
    ]


def science_that_knows_the_pipeline(module: str, source: str) -> list[str]:
    """In a stage package only step, output and view import the context."""
    place = place_in_stages(module)
    if place is None or place[1] in ("step", *FACES):
        return []
    shared = tuple(f"fairsynth.stages.{name}" for name in ("context", "stage"))
    return [f"{module} imports {other}" for other in own_imports(module, source) if other in shared]


def stages_of_each_other(module: str, source: str) -> list[str]:
    """A stage imports of another one only what it leaves (output, view), and only of an earlier one."""
    here, order, wrong = place_in_stages(module), order_of_stages(), []
    if here is None:
        return []
    for other in own_imports(module, source):
        there = place_in_stages(other)
        if there is None or there[0] == here[0]:
            continue
        if there[1] not in FACES:
            wrong.append(f"{module} imports {other}, which is not what stage {there[0]} leaves")
        elif order.index(there[0]) > order.index(here[0]):
            wrong.append(f"{module} imports {other}, of a later stage")
    return wrong


def imports_from_above(module: str, source: str) -> list[str]:
    """Imports point down or sideways."""
    here = layer(module)
    targets = {target for name in imports(module, source) if (target := own(name))}
    return [f"{module} imports {target}, from a layer above" for target in sorted(targets) if layer(target) > here]


def unsafe_reading(module: str, source: str) -> list[str]:
    """No file and no model can run code: no pickle in any form, no code from the hub."""
    wrong = [f"{module} imports {name}" for name in imports(module, source) if name.split(".")[0] in UNSAFE_MODULES]
    wrong += [f"{module} imports torch.load" for name in imports(module, source) if name == "torch.load"]
    tree = ast.parse(source)
    torches = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "torch"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "load" and getattr(node.value, "id", None) in torches:
            wrong.append(f"{module}, line {node.lineno}: torch.load")
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
            off = isinstance(node.value, ast.Constant) and node.value.value is False
            wrong += [] if off else [f"{module}, line {node.value.lineno}: {node.arg}"]
        if isinstance(node, ast.Constant) and node.value in ("allow_pickle", "trust_remote_code"):
            wrong.append(f"{module}, line {node.lineno}: {node.value}")
    return wrong


def cycles(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import themselves by way of others."""
    wrong = []
    for start in graph:
        seen: set[str] = set()
        ahead = set(graph[start])
        while ahead:
            name = ahead.pop()
            seen.add(name)
            ahead |= graph.get(name, set()) - seen
        if start in seen:
            wrong.append(start)
    return wrong


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
    ],
)
def test_the_project_keeps_the_rule(rule: Rule) -> None:
    assert [problem for module, source in SOURCES.items() for problem in rule(module, source)] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: own_imports(module, source) for module, source in SOURCES.items()}
    assert cycles(graph) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_every_stage_has_its_package() -> None:
    folders = {place[0] for module in SOURCES if (place := place_in_stages(module))}
    assert folders == set(order_of_stages())
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


@pytest.mark.parametrize(
    "module", ["fairsynth.pipeline", "fairsynth.stages.embed.embedding", "fairsynth.enginex", "jobs.embed"]
)
@pytest.mark.parametrize(
    "source",
    [
        "import ray",
        "import ray.data as rd",
        "import os, ray",
        "from ray import tune",
        "from ray.train.torch import TorchTrainer",
        "def f():\n    import ray",
        "if TYPE_CHECKING:\n    from ray.data import Dataset",
        "import importlib\nray = importlib.import_module('ray')",
    ],
)
def test_ray_outside_the_engine_is_found(module: str, source: str) -> None:
    assert ray_outside_the_engine(module, source)
    assert not ray_outside_the_engine("fairsynth.engine.units", source)


@pytest.mark.parametrize("source", ["import rayon", "from fairsynth.engine import session", "x = 'import ray'"])
def test_what_only_looks_like_ray_is_not_reported(source: str) -> None:
    assert not ray_outside_the_engine("fairsynth.pipeline", source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fairsynth.errors", "from fairsynth.manifest import Manifest"),
        ("fairsynth.config", "import fairsynth.groups"),
        ("fairsynth.config.classify", "import fairsynth.groups"),
        ("fairsynth.manifest", "from fairsynth.data.readers import folder"),
        ("fairsynth.artifacts", "from fairsynth.stages.ingest.settle import settle"),
        ("fairsynth.something_new", "from fairsynth.data.storage import Storage"),
        ("fairsynth.data.storage", "from fairsynth.stages.ingest.content import CheckImages"),
        ("fairsynth.models.encoder", "def f():\n    from fairsynth.stages.embed import embedding"),
        ("fairsynth.data.table", "from ..engine.session import Session"),
        ("fairsynth.classify.losses", "from fairsynth.stages.finetune.denoising import Latents"),
        ("fairsynth.exports.formats", "from fairsynth.stages.context import Context"),
        ("fairsynth.engine.units", "from fairsynth.stages.context import Context"),
        ("fairsynth.engine", "from ..pipeline import run"),
        ("fairsynth.stages.ingest.step", "from fairsynth import pipeline"),
        ("fairsynth.stages.ingest.step", "from fairsynth.commands.inspect import findings"),
        ("fairsynth.pipeline", "from fairsynth.cli import main"),
        ("fairsynth.cli", "from jobs import pipeline"),
    ],
)
def test_an_import_from_above_is_found(module: str, source: str) -> None:
    assert imports_from_above(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jobs.pipeline", "from fairsynth.cli import main"),
        ("fairsynth.pipeline", "from fairsynth.stages.ingest import step"),
        ("fairsynth.manifest", "from fairsynth.groups import Group"),
        ("fairsynth.stages.ingest.settle", "from fairsynth.data.readers import folder"),
        ("fairsynth.data.dataset", "from fairsynth.escaping import printable"),
        ("fairsynth.cli", "from fairsynth import __version__"),
    ],
)
def test_an_import_from_below_is_not_reported(module: str, source: str) -> None:
    assert not imports_from_above(module, source)


def test_a_new_folder_needs_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_architecture.PACKAGES", {*PACKAGES, "fairsynth.attic"})
    with pytest.raises(AssertionError, match="attic has no layer"):
        layer("fairsynth.attic.old")


@pytest.mark.parametrize(
    "source",
    [
        "from fairsynth.stages.finetune.lot import Lot",
        "from fairsynth.classify.training import Training",
        "from fairsynth.exports import dataset_card",
        "def f():\n    from fairsynth.data.storage import Storage",
        "from ..commands.bench import grid",
    ],
)
def test_an_engine_that_knows_the_work_is_found(source: str) -> None:
    assert engine_that_knows_the_work("fairsynth.engine.train", source)
    assert not engine_that_knows_the_work("fairsynth.pipeline", source)
    assert not engine_that_knows_the_work("fairsynth.engine.train", "from fairsynth.artifacts import Units")


@pytest.mark.parametrize(
    "source",
    [
        "from fairsynth.engine.units import run_units",
        "from fairsynth.engine import session",
        "if TYPE_CHECKING:\n    from fairsynth.engine.session import Session",
        "def f():\n    from ...engine import train",
    ],
)
def test_a_second_door_to_the_engine_is_found(source: str) -> None:
    assert second_doors_to_the_engine("fairsynth.stages.tune.search", source)
    assert second_doors_to_the_engine("fairsynth.stages.views", source.replace("...engine", "..engine"))
    assert not second_doors_to_the_engine("fairsynth.stages.context", source.replace("...engine", "..engine"))
    assert not second_doors_to_the_engine("fairsynth.pipeline", source)


@pytest.mark.parametrize("source", ["from fairsynth.stages.context import Context", "from ..stage import Made"])
def test_science_that_knows_the_pipeline_is_found(source: str) -> None:
    assert science_that_knows_the_pipeline("fairsynth.stages.tune.search", source)
    assert not science_that_knows_the_pipeline("fairsynth.stages.tune.step", source)
    assert not science_that_knows_the_pipeline("fairsynth.stages.tune.output", source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fairsynth.stages.embed.embedding", "from fairsynth.stages.ingest.settle import settle"),
        ("fairsynth.stages.embed.step", "from fairsynth.stages.ingest import settle"),
        ("fairsynth.stages.synthesize.rounds", "import fairsynth.stages.cluster.kmeans"),
        ("fairsynth.stages.cluster.kmeans", "from ..embed.embedding import EmbedUnit"),
        ("fairsynth.stages.cluster.kmeans", "def f():\n    from ..embed import step"),
        ("fairsynth.stages.cluster.step", "from fairsynth.stages.finetune.output import adapters"),
        ("fairsynth.stages.audit.step", "from fairsynth.stages.report import output"),
    ],
)
def test_a_stage_that_imports_another_is_found(module: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "fairsynth.stages.report.output", "")
    assert stages_of_each_other(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fairsynth.stages.finetune.step", "from .denoising import Latents"),
        ("fairsynth.stages.cluster.step", "from fairsynth.stages.cluster.kmeans import kmeans"),
        ("fairsynth.stages.cluster.step", "from fairsynth.stages.embed.output import embedding_files"),
        ("fairsynth.stages.audit.step", "from fairsynth.stages.synthesize.view import show_audit"),
        ("fairsynth.stages.tune.step", "from fairsynth.stages.context import Context"),
        ("fairsynth.stages.views", "from fairsynth.stages.ingest.settle import settle"),
        ("fairsynth.commands.inspect.findings", "from fairsynth.stages.ingest.content import examine"),
    ],
)
def test_what_a_stage_leaves_may_be_imported(module: str, source: str) -> None:
    assert not stages_of_each_other(module, source)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import cloudpickle as cp",
        "import joblib",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=True)",
        "import torch\nread = torch.load",
        "from torch import load",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=flag)",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "AutoModel.from_pretrained('x', **{'trust_remote_code': True})",
    ],
)
def test_unsafe_reading_is_found(source: str) -> None:
    assert unsafe_reading("fairsynth.models.encoder", source)


@pytest.mark.parametrize(
    "source",
    [
        "'''Never pickle, never torch.load.'''",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import json\njson.load(open('x'))",
        "from safetensors.torch import load_file",
    ],
)
def test_safe_reading_is_not_reported(source: str) -> None:
    assert not unsafe_reading("fairsynth.models.encoder", source)
