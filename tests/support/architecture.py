"""The rules of the architecture, by paths alone: each takes a module's name and source, and gives what is wrong."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from tests.support.structure import PACKAGES, imports, own, own_imports

# From the ground up: what lies in a folder of the package (or is a file at its top) imports from its own layer and from
# those below. Files at the top that no layer names are words and types.
WORDS = "words and types"
# The package itself, ``import fairsynth``: it names what people use, and no module imports it.
FACE = "the package's face"
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "config"),
    (WORDS, "watching", "tracking", "store", "run_folder"),
    ("data", "models"),
    ("engine", "classify", "exports", "demo"),
    ("stages",),
    ("pipeline", "preflight"),
    ("commands",),
    ("api",),
    (FACE, "cli"),
    ("jobs",),
)
# What stage packages share, and what of a stage package other stages may import.
SHARED, FACES = ("context", "stage", "views"), ("output", "view")
# Reading with these can run code that somebody else wrote.
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def layer(module: str) -> int:
    """Height of the module's layer, by the folder that it lies in."""
    package, _, rest = module.partition(".")
    place = package if package == "jobs" else rest.partition(".")[0] or FACE
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
    """In a stage package only step and view import the context."""
    place = place_in_stages(module)
    if place is None or place[1] in ("step", "view"):
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


def text_without_encoding(module: str, source: str) -> list[str]:
    """No file is opened as text in the encoding that the locale happens to have."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [f"{module}, line {call.lineno}: {ast.unparse(call.func)}" for call in calls if _by_the_locale(call)]


def _by_the_locale(call: ast.Call) -> bool:
    """Whether a call reads or writes text and names no encoding."""
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = len(call.args)
    if any(keyword.arg in ("encoding", None) for keyword in call.keywords):
        return False
    if method and name in ("read_text", "write_text"):
        return given < (1 if name == "read_text" else 2)
    if name == "TextIOWrapper":
        return given < 2
    if name == "open" and not method:
        return "b" not in _mode(call, 1, "r") and given < 4
    # Of other things that can be opened only the mode tells whether it is as text.
    mode = _mode(call, 0 if name in ("open", "NamedTemporaryFile", "TemporaryFile") else 1, "")
    is_file = name in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile")
    return is_file and mode[:1] in ("r", "w", "a", "x") and set(mode) <= {*"rwaxt+"}


def _mode(call: ast.Call, place: int, default: str) -> str:
    """The mode in which a call opens a file; the default where it is no plain text."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[place : place + 1]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else default


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
