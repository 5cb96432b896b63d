"""YAML from others, read within bounds: what it unfolds to, how deep it nests, how long its numbers are.

A few hundred bytes of aliases can stand for gigabytes, and PyYAML's scanner takes time with the square of the depth. So
nesting is counted while it is read, and whatever an alias stands for is counted each time.
"""

from __future__ import annotations

import os
import stat
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from fairsynth.errors import ConfigError

MOST_BYTES = 1 << 20
MOST_NODES = 100_000
DEEPEST = 50
_LONGEST_NUMBER = 100
# What PyYAML lets through for a value that does not fit its tag.
_UNFIT = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0
        self._sizes: dict[str, int] = {}

    def _deeper(self) -> None:
        if self.flow_level + len(self.indents) >= DEEPEST:
            raise yaml.YAMLError(f"it nests more than {DEEPEST} deep")

    def fetch_flow_collection_start(self, token: Any) -> None:
        self._deeper()
        super().fetch_flow_collection_start(token)

    def add_indent(self, column: int) -> bool:
        self._deeper()
        return super().add_indent(column)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event, before = self.peek_event(), self._nodes
        if isinstance(event, yaml.AliasEvent) and event.anchor in self.anchors:
            if event.anchor not in self._sizes:
                raise yaml.YAMLError(f"the alias *{event.anchor} is inside of what it stands for")
            self._nodes += self._sizes[event.anchor]
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise yaml.YAMLError(
                f"it has more than {MOST_NODES:,} values, with each alias counted as what it stands for"
            )
        node = super().compose_node(parent, index)
        if not isinstance(event, yaml.AliasEvent) and event.anchor is not None:
            self._sizes[event.anchor] = self._nodes - before
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if (
            isinstance(node, yaml.ScalarNode)
            and node.tag.endswith((":int", ":float"))
            and len(node.value) > _LONGEST_NUMBER
        ):
            raise ConstructorError(None, None, f"a number of {len(node.value):,} characters", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except _UNFIT:
            raise ConstructorError(None, None, f"the value does not fit {node.tag}", node.start_mark) from None


def parse(text: str) -> Any:
    """The content of a YAML text. Raises yaml.YAMLError for anything that is no YAML, or beyond the bounds."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except RecursionError:
        raise yaml.YAMLError("it nests too deep") from None
    finally:
        loader.dispose()


def problem(error: yaml.YAMLError) -> str:
    """What is wrong, and in which line; not the line itself, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    return " ".join(str(what).split())[:300] + where


def read(path: str) -> str:
    """The text of a config's file.

    Raises ConfigError for what is no regular file (a pipe would be waited for without end) or has more than 1 MB, OSError and
    UnicodeDecodeError as opening and reading do.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "Is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"the config {path} is not a regular file; write the settings to one and give that")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        size = max(status.st_size, len(content))
        raise ConfigError(f"the config {path} has {size:,} bytes; at most {MOST_BYTES:,} are read; is it a config?")
    return content.decode("utf-8").removeprefix("\ufeff")


def file_name_problem(value: str) -> str:
    """Why a text can be no name of a file: a NUL, or what no file system can hold; empty if it can."""
    if "\0" in value:
        return "holds a NUL character"
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return "holds half of a Unicode character"
    return ""


def text_problems(content: Any, where: str = "") -> list[str]:
    """Settings whose text holds what no name of a file and no prompt can; with the reason."""
    if isinstance(content, dict):
        return [
            problem for key, value in content.items() for problem in text_problems(value, f"{where}.{key}".lstrip("."))
        ]
    if isinstance(content, list | tuple):
        return [problem for value in content for problem in text_problems(value, where)]
    why = file_name_problem(content) if isinstance(content, str) else ""
    return [f"{where} {why}"] if why else []
