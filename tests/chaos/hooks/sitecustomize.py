"""Python imports this at the start of every process that has this folder on its path: the driver's and Ray's workers'.

With ``CHAOS_FOLDER`` set it notes there which units are begun (``journal.jsonl``), and with ``CHAOS_ROOT`` each
operation by which a file below that folder gets its content or its name. Where ``crash.json`` names such operations,
the process that does one ends just before or just after it, as by ``kill -9``. Nothing of the product knows of it; without the
variables nothing happens.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

JOURNAL, PLAN, DRIVER, FIRED = "journal.jsonl", "crash.json", "driver.json", "fired-"
_OPERATIONS = ("rename", "replace", "link", "fsync", "mkdir")
_RANDOM = re.compile(r"[0-9a-f]{32}")
_FINGERPRINT = re.compile(r"(?<=-)[0-9a-f]{16}(?=/|$)")
# Ray's own files, and what no result needs, are not commits.
_ASIDE = re.compile(r"(^|/)(ray|logs|tensorboard|dataset)/|(^|/)\.?progress\.json")
_UNITS = "fairsynth.engine.units"


def write_line(folder: str, **content: object) -> None:
    """Append a line to the journal; lines of several processes do not mix."""
    line = json.dumps({"time": time.time(), "pid": os.getpid(), **content}) + "\n"
    descriptor = os.open(os.path.join(folder, JOURNAL), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, line.encode())
    os.close(descriptor)


class Crashes:
    """Notes operations below a root, and ends the process at the one that the plan names."""

    def __init__(self, folder: str, root: str) -> None:
        self.folder, self.root, self.times = folder, os.path.realpath(root), Counter[str]()
        self._plan: list[dict[str, Any]] | None = None

    def install(self) -> None:
        """Put this around the operations."""
        for name in _OPERATIONS:
            setattr(os, name, self.around(name, getattr(os, name)))

    def around(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        """The operation, with the ends of the process that the plan wants."""

        def noted(*arguments: Any, **options: Any) -> Any:
            point = self.point(name, arguments, options)
            if point is None:
                return operation(*arguments, **options)
            self.end(point, "before")
            result = operation(*arguments, **options)
            write_line(self.folder, what="operation", point=point)
            self.end(point, "after")
            return result

        return noted

    def point(self, name: str, arguments: Sequence[Any], options: dict[str, Any]) -> str | None:
        """The operation's name in every run: of its last path, without random parts, and how often it was there."""
        path = arguments[-1] if name != "mkdir" else arguments[0]
        base = options.get("dst_dir_fd", options.get("dir_fd"))
        try:
            where = f"/proc/self/fd/{path}" if isinstance(path, int) else os.fsdecode(path)
            if base is not None:
                where = os.path.join(os.readlink(f"/proc/self/fd/{base}"), where)
            whole = os.path.realpath(where)
        except (OSError, TypeError, ValueError):
            return None
        if not whole.startswith(self.root + os.sep):
            return None
        inside = _FINGERPRINT.sub("*", _RANDOM.sub("*", whole.removeprefix(self.root + os.sep)))
        if _ASIDE.search(inside):
            return None
        self.times[f"{name} {inside}"] += 1
        return f"{name} {inside} {self.times[f'{name} {inside}']}"

    def end(self, point: str, when: str) -> None:
        """End this process where the plan wants it, once; its run's driver, too, if the plan says ``whole``."""
        if self._plan is None:
            self._plan = _read(os.path.join(self.folder, PLAN), [])
        for wanted in self._plan:
            if (wanted["point"], wanted["when"]) == (point, when) and self.first(wanted["number"]):
                driver = _read(os.path.join(self.folder, DRIVER), None)
                if wanted.get("whole") and driver:
                    os.kill(driver, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)

    def first(self, number: int) -> bool:
        """Whether no process has ended for this part of the plan."""
        try:
            os.close(os.open(os.path.join(self.folder, f"{FIRED}{number}"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def _read(path: str, otherwise: Any) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError:
        return otherwise


class _Watched(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets the workers' class note each unit that it begins."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != _UNITS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        module.__spec__.loader = self.loader  # type: ignore[union-attr]
        actor, folder = module._UnitActor, self.folder
        begun = actor.begun

        def noted(self: Any, task: Any) -> Any:
            name = str(task["name"])
            if not self.failure and name not in self.units.done():
                write_line(folder, what="begun", unit=f"{os.path.basename(os.path.dirname(self.units.path))}/{name}")
            return begun(self, task)

        actor.begun = noted


if _folder := os.environ.get("CHAOS_FOLDER"):
    sys.meta_path.insert(0, _Watched(_folder))
    if _root := os.environ.get("CHAOS_ROOT"):
        Crashes(_folder, _root).install()
