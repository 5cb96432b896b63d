"""Which module may import which, and what nobody may do: read from the source, and each rule shown to bite."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up: a module imports from its own layer and from those below.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("fairsynth", "fairsynth.errors", "fairsynth.config", "fairsynth.compare_config", "fairsynth.data_config"),
    (
        "fairsynth.manifest",
        "fairsynth.groups",
        "fairsynth.artifacts",
        "fairsynth.adapter_jobs",
        "fairsynth.configuration",
        "fairsynth.lock",
        "fairsynth.markdown",
        "fairsynth.plan",
        "fairsynth.printing",
        "fairsynth.prompts",
        "fairsynth.vectors",
    ),
    ("fairsynth.data", "fairsynth.models", "fairsynth.demo"),
    ("fairsynth.stages",),
    ("fairsynth.engine",),
    ("fairsynth.steps", "fairsynth.checks"),
    ("fairsynth.pipeline", "fairsynth.bench"),
    ("fairsynth.cli",),
    ("jobs",),
)
# A stage is one file, but for these: their files may import each other.
FAMILIES = (
    {
        "classify",
        "batches",
        "checkpoint",
        "dfr",
        "epoch",
        "halving",
        "losses",
        "methods",
        "policies",
        "metrics",
        "bench_table",
        "bench_picture",
        "published",
        "search_picture",
        "search_space",
        "training_data",
        "evaluate",
        "report",
        "state_files",
    },
    {
        "finetune",
        "adapter_files",
        "class_images",
        "denoising",
        "full_training",
        "latents",
        "lot",
        "lot_state",
        "model_card",
        "prompt_texts",
        "stacked_training",
        "state_files",
    },
    {"ingest", "content", "inspect", "inspect_text"},
    {"cluster", "discover"},
    {
        "image_plan",
        "routing",
        "probe",
        "generate",
        "selection",
        "codec",
        "codec_files",
        "set_formats",
        "set_facts",
        "dataset_card",
        "croissant",
        "audit",
        "copy_audit",
        "fidelity",
        "memorisation",
        "realism",
    },
)
# Reading with these can run code that somebody else wrote.
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def sources() -> dict[str, str]:
    """Name and source of every module of fairsynth and jobs."""
    found = {}
    for package in ("fairsynth", "jobs"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text("utf-8")
    return found


SOURCES = sources()
PACKAGES = {name.rpartition(".")[0] for name in SOURCES} | {"fairsynth", "jobs"}


def imports(module: str, source: str) -> Iterator[str]:
    """Full names of all that the module imports, wherever in the file and however written."""
    package = module if module in PACKAGES else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def own(name: str) -> str | None:
    """The module of this project that an imported name belongs to."""
    while name:
        if name in SOURCES:
            return name
        name = name.rpartition(".")[0]
    return None


def layer(module: str) -> int | None:
    """Height of the module's layer; None if nobody gave it one."""
    for height, names in enumerate(LAYERS):
        # Being below fairsynth gives no layer: every module and package there is named.
        if module in names or any(module.startswith(f"{name}.") for name in names if name != "fairsynth"):
            return height
    return None


def ray_outside_the_engine(module: str, source: str) -> list[str]:
    """Only fairsynth.engine imports ray."""
    if module == "fairsynth.engine" or module.startswith("fairsynth.engine."):
        return []
    return [f"{module} imports {name}" for name in imports(module, source) if name.split(".")[0] == "ray"]


def imports_from_above(module: str, source: str) -> list[str]:
    """Imports point down or sideways."""
    here = layer(module)
    if here is None:
        return [f"{module} has no layer; give it one in LAYERS"]
    wrong = []
    for name in imports(module, source):
        target = own(name)
        there = layer(target) if target else None
        if there is not None and there > here:
            wrong.append(f"{module} imports {name}, from a layer above")
    return wrong


def stages_of_each_other(module: str, source: str) -> list[str]:
    """A stage knows no other stage."""
    prefix = "fairsynth.stages."
    if not module.startswith(prefix):
        return []
    stage = module.removeprefix(prefix)
    family = next((members for members in FAMILIES if stage in members), {stage})
    others = (own(name) for name in imports(module, source))
    return [
        f"stage {stage} imports stage {other.removeprefix(prefix)}"
        for other in others
        if other and other.startswith(prefix) and other.removeprefix(prefix) not in family
    ]


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
        imports_from_above,
        stages_of_each_other,
        unsafe_reading,
    ],
)
def test_the_project_keeps_the_rule(rule: Rule) -> None:
    assert [problem for module, source in SOURCES.items() for problem in rule(module, source)] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        module: {target for name in imports(module, source) if (target := own(name)) and target != module}
        for module, source in SOURCES.items()
    }
    assert cycles(graph) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_the_walk_sees_the_project() -> None:
    expected = {"fairsynth", "fairsynth.cli", "fairsynth.engine.session", "fairsynth.stages.ingest", "jobs.pipeline"}
    assert expected <= SOURCES.keys()
    # Were the walk blind to imports inside functions, it would miss that the engine uses ray at all.
    assert any(
        name.split(".")[0] == "ray" for name in imports("fairsynth.engine.session", SOURCES["fairsynth.engine.session"])
    )


@pytest.mark.parametrize("module", ["fairsynth.pipeline", "fairsynth.stages.embed", "fairsynth.enginex", "jobs.embed"])
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
        ("fairsynth.manifest", "from fairsynth.data.readers import folder"),
        ("fairsynth.artifacts", "from fairsynth.stages.ingest import settle"),
        ("fairsynth.plan", "from fairsynth.data.storage import Storage"),
        ("fairsynth.printing", "from fairsynth.stages import inspect_text"),
        ("fairsynth.data.storage", "from fairsynth.stages.content import CheckImages"),
        ("fairsynth.models.encoder", "def f():\n    from fairsynth.stages import embed"),
        ("fairsynth.data.table", "from ..engine.session import Session"),
        ("fairsynth.stages.embed", "from fairsynth.engine.units import run_units"),
        ("fairsynth.engine.units", "from fairsynth.steps.context import Context"),
        ("fairsynth.engine", "from ..pipeline import run"),
        ("fairsynth.steps.prepare", "from fairsynth import pipeline"),
        ("fairsynth.pipeline", "from fairsynth.cli import main"),
        ("fairsynth.cli", "from jobs import pipeline"),
        ("fairsynth.something_new", "import os"),
    ],
)
def test_an_import_from_above_is_found(module: str, source: str) -> None:
    assert imports_from_above(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jobs.pipeline", "from fairsynth.cli import main"),
        ("fairsynth.pipeline", "from fairsynth.steps import classify"),
        ("fairsynth.manifest", "from fairsynth.groups import Group"),
        ("fairsynth.stages.ingest", "from fairsynth.data.readers import folder"),
        ("fairsynth.data.dataset", "from fairsynth.printing import printable"),
        ("fairsynth.cli", "from fairsynth import __version__"),
    ],
)
def test_an_import_from_below_is_not_reported(module: str, source: str) -> None:
    assert not imports_from_above(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fairsynth.stages.embed", "from fairsynth.stages.ingest import settle"),
        ("fairsynth.stages.embed", "from fairsynth.stages import ingest"),
        ("fairsynth.stages.synthesize", "import fairsynth.stages.cluster"),
        ("fairsynth.stages.cluster", "from .embed import EmbedUnit"),
        ("fairsynth.stages.cluster", "def f():\n    from . import embed"),
        ("fairsynth.stages.finetune", "from fairsynth.stages.classify import Training"),
        ("fairsynth.stages.losses", "from fairsynth.stages.denoising import Latents"),
        ("fairsynth.stages.inspect", "from fairsynth.stages.cluster import kmeans"),
        ("fairsynth.stages.embed", "from fairsynth.stages.content import CheckImages"),
        ("fairsynth.stages.inspector", "from fairsynth.stages.content import CheckImages"),
    ],
)
def test_a_stage_that_imports_another_is_found(module: str, source: str) -> None:
    assert stages_of_each_other(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fairsynth.stages.classify", "from fairsynth.stages.losses import supcon"),
        ("fairsynth.stages.finetune", "from .denoising import Latents"),
        ("fairsynth.stages.discover", "from fairsynth.stages.cluster import kmeans"),
        ("fairsynth.stages.inspect", "from fairsynth.stages.content import examine"),
        ("fairsynth.steps.prepare", "from fairsynth.stages import embed, ingest"),
        ("fairsynth.engine.search", "from fairsynth.stages.classify import Training"),
    ],
)
def test_files_of_one_stage_may_import_each_other(module: str, source: str) -> None:
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
