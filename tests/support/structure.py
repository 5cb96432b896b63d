"""What the source says of the project's structure: who imports whom, and how large things are.

``python -m tests.support.structure [CHECKOUT ...]`` prints the table of measures, a column for each checkout.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]


def sources(root: Path = ROOT) -> dict[str, str]:
    """Name and source of every module of fairsynth and jobs."""
    found = {}
    for package in ("fairsynth", "jobs"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
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


def own(name: str, known: dict[str, str] = SOURCES) -> str | None:
    """The module of this project that an imported name belongs to."""
    while name:
        if name in known:
            return name
        name = name.rpartition(".")[0]
    return None


def own_imports(module: str, source: str, known: dict[str, str] = SOURCES) -> set[str]:
    """The modules of this project that a module imports."""
    return {target for name in imports(module, source) if (target := own(name, known)) and target != module}


def function_lengths(source: str) -> list[int]:
    """Lines of each function, with its docstring and without its decorators."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]


def files_per_folder(root: Path) -> Counter[str]:
    """Source files of the package and its tests by folder; faces (``__init__.py``) and data do not count."""
    return Counter(
        str(path.parent.relative_to(root))
        for package in ("fairsynth", "jobs", "tests", "benchmarks")
        for path in (root / package).rglob("*.py")
        if path.name != "__init__.py"
    )


def file_lengths(root: Path) -> dict[str, int]:
    """Lines of each source file of the package, its tests and its benchmarks."""
    return {
        str(path.relative_to(root)): path.read_text("utf-8").count("\n")
        for package in ("fairsynth", "jobs", "tests", "benchmarks")
        for path in (root / package).rglob("*.py")
    }


def measures(root: Path = ROOT) -> dict[str, str]:
    """The table of measures: what is said of the structure, and the figure."""
    known = sources(root)
    lengths = {name: source.count("\n") for name, source in known.items() if source.strip()}
    functions = [n for source in known.values() for n in function_lengths(source)]
    fans = {name: len(own_imports(name, source, known)) for name, source in known.items() if source.strip()}
    folders, files = files_per_folder(root), file_lengths(root)
    widest, widest_name = max((n, folder) for folder, n in folders.items())
    most, most_name = max((n, name) for name, n in fans.items())
    longest, longest_name = max((n, name) for name, n in files.items())
    return {
        "modules": f"{len(lengths)}",
        "lines per module: median, most": f"{median(lengths.values()):.0f}, {max(lengths.values())}",
        "longest file, tests and benchmarks too": f"{longest} ({longest_name})",
        "functions": f"{len(functions)}",
        "lines per function: median, most": f"{median(functions):.0f}, {max(functions)}",
        "files in the widest folder": f"{widest} ({widest_name})",
        "own imports per module: median, most": f"{median(fans.values()):.0f}, {most} ({most_name})",
    }


def main() -> None:
    """Print the measures of the given checkouts side by side."""
    roots = [Path(name).resolve() for name in sys.argv[1:]] or [ROOT]
    columns = [measures(root) for root in roots]
    print("| measure | " + " | ".join(root.name for root in roots) + " |")
    print("| --- |" + " --- |" * len(roots))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")


if __name__ == "__main__":
    main()
