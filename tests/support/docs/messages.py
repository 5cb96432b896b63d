"""Texts of the source as a reader sees them: every string of the package, with … in place of what is filled in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

VALUE = "…"


def messages(package: Path) -> set[str]:
    """All strings of all modules below a folder."""
    return {text for path in package.rglob("*.py") for text in _strings(ast.parse(path.read_text("utf-8")))}


def shown(text: str) -> str:
    """On one line, values that touch as one."""
    return re.sub(rf"{VALUE}+", VALUE, " ".join(text.split()))


def _strings(tree: ast.AST) -> Iterator[str]:
    parts: set[int] = set()  # of strings that are filled in, and docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values}
            yield shown("".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values))
        elif isinstance(node, ast.Expr):
            parts.add(id(node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield shown(node.value)
