"""The pages for people as a test reads them: blocks, inline code, links, headings, tables, and the options of scripts."""

from __future__ import annotations

import ast
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block, without the indentation that it has in a list."""

    language: str
    code: str


def read_pages(root: Path = ROOT) -> dict[str, str]:
    """Text of README, the two pages beside it and all of docs/, by path."""
    paths = [*(root / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")), *(root / "docs").glob("*.md")]
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in sorted(paths)}


def blocks(text: str) -> list[Block]:
    """All fenced blocks."""
    return [
        Block(found["language"], re.sub(f"^{found['indent']}", "", found["code"], flags=re.MULTILINE))
        for found in _FENCE.finditer(text)
    ]


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return _FENCE.sub("", text)


def inline_codes(text: str) -> list[str]:
    """All inline code, each on one line."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def links(text: str) -> list[str]:
    """Targets of all links and pictures outside code."""
    return _LINK.findall(re.sub(r"`[^`]+`", "", prose(text)))


def anchors(text: str) -> set[str]:
    """What ``#...`` can name in a page, by GitHub's rule for headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def tables(text: str) -> list[list[list[str]]]:
    """Cells of all tables, row by row."""
    found = re.findall(r"(?:^\|.*\|[ ]*\n?)+", prose(text), re.MULTILINE)
    return [[[cell.strip() for cell in row.strip().strip("|").split("|")] for row in t.splitlines()] for t in found]


def commands(code: str) -> list[list[str]]:
    """Words of each command of a block of shell code; comments and line ends are the shell's."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def words_of(code: str) -> list[str]:
    """Words of inline code, if the shell can read it."""
    try:
        return shlex.split(code)
    except ValueError:
        return []


def options(words: Sequence[str]) -> list[list[str]]:
    """Each option with the words up to the next one."""
    starts = [i for i, word in enumerate(words) if word.startswith("--")]
    return [list(words[start:end]) for start, end in zip(starts, [*starts[1:], len(words)], strict=True)]


def named_in_files(text: str) -> list[tuple[str, str]]:
    """Files of source with a name that is said to be in them: the two stand in code, a comma between them."""
    return re.findall(r"`([\w/]+\.py)`,\s+`(\w[\w.]*)`", prose(text))


def opening(text: str) -> list[str]:
    """The sentences of the paragraph that a page begins with, after its title."""
    title, first = text.split("\n\n")[:2]
    return re.findall(r"[^.?!]+[.?!](?=\s|$)", first) if re.fullmatch("# .+", title) else []


def script_options(source: str) -> dict[str, bool]:
    """Options that a script gives to argparse, and whether each must be given."""
    tree = ast.parse(source)
    loops = {
        node.target.id: [one.value for one in node.iter.elts if isinstance(one, ast.Constant)]
        for node in ast.walk(tree)
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Tuple)
    }
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "add_argument":
            continue
        must = any(word.arg == "required" and ast.literal_eval(word.value) for word in node.keywords)
        for name in node.args:
            given = loops.get(name.id, ()) if isinstance(name, ast.Name) else (ast.literal_eval(name),)
            found |= {option: must for option in given if str(option).startswith("--")}
    return found


def forwarded(source: str) -> str | None:
    """The command of fairsynth that a job stands for: the first word of the list that it calls ``script`` with."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "script" and node.args:
            first = node.args[0].elts[0] if isinstance(node.args[0], ast.List) else None
            return str(ast.literal_eval(first)) if first else None
    return None


def defined(source: str) -> set[str]:
    """Names of functions, classes, methods and constants of a module; those of a class with its name before them."""

    def inside(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from inside(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))

    return set(inside(ast.parse(source).body))


def tree_entries(code: str) -> list[str]:
    """Paths that a drawn tree names: two spaces of indentation are a folder, the first word of a line is the name."""
    stack: list[str] = []
    found = []
    for line in filter(str.strip, code.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2
        stack = [*stack[:depth], line.split()[0]]
        found.append("".join(stack))
    return found
