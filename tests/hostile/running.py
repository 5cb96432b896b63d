"""Gives hostile inputs to the command, and says of each what was not as it must be."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.cases import CANARY, Case, Place
from tests.hostile.outside import Outside

MOST_MB = 1024.0
_ROOT = Path(__file__).parents[2]
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# A file of which more is not looked at.
_LOOK = 1 << 22


@dataclass(frozen=True)
class Outcome:
    """How a case ended. ``wrong``: what was not as it must be; empty is good."""

    case: Case
    code: int
    seconds: float
    peak: float
    said: str
    wrong: list[str]

    def told(self) -> str:
        """In a line."""
        shown = "".join(c if c.isprintable() else "?" for c in self.said.replace("\n", " | "))[-400:]
        return f"exit {self.code}, {self.seconds} s, {self.peak:.0f} MB {self.wrong or ''}: {shown}"


class Runner:
    """Runs cases one by one, each in a folder of its own below ``base``, which is removed when it was as it must be."""

    def __init__(self, base: Path, outside: Outside, run: Path) -> None:
        self.base, self.outside, self.run_folder = base, outside, run
        self._servers: dict[bool, subprocess.Popen[str]] = {}

    def __call__(self, case: Case) -> Outcome:
        """The outcome of one case."""
        folder = self.base / re.sub(r"[^a-z0-9]+", "-", case.id.lower())[:100]
        folder.mkdir(parents=True)
        place = Place(folder / "data", folder / "c.yaml", folder / "out", self.outside.root, self.run_folder)
        place.data.mkdir()
        case.make(place)
        given, cwd = _stamps(place.data), place.data if case.inside else folder / "cwd"
        cwd.mkdir(exist_ok=True)
        self.outside.touched()
        answer = self._ask(case, place.words(case.words), folder, cwd)
        said = "".join((folder / name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
        wrong = [*_problems(case, answer, said), *(f"outside: {what}" for what in self.outside.touched())]
        wrong += ["the dataset was changed"] if _stamps(place.data) != given else []
        wrong += [f"a secret is in {path}" for path in _leaks(folder, place)]
        if not wrong:
            shutil.rmtree(folder, ignore_errors=True)
        return Outcome(case, answer["code"], answer["seconds"], answer["peak"], said, wrong)

    def _ask(self, case: Case, words: list[str], folder: Path, cwd: Path) -> dict[str, Any]:
        server = self._server(case.torch)
        env = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "MY_SECRET_TOKEN": CANARY, **case.env}
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        env = {name: value.replace("{data}", str(folder / "data")) for name, value in env.items()}
        assert server.stdin is not None and server.stdout is not None
        print(
            json.dumps({"words": words, "cwd": str(cwd), "env": env, "to": str(folder)}), file=server.stdin, flush=True
        )
        return dict(json.loads(server.stdout.readline()))

    def _server(self, torch: bool) -> subprocess.Popen[str]:
        if torch not in self._servers:
            inherited = {n: v for n, v in os.environ.items() if not n.startswith("RAY_") and n != "FAIRSYNTH_DEBUG"}
            environment = inherited | {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            self._servers[torch] = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.server", *(["torch"] if torch else [])],
                cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            )  # fmt: skip
        return self._servers[torch]

    def close(self) -> None:
        """End the servers."""
        for server in self._servers.values():
            server.communicate(timeout=30)


@contextmanager
def runner(base: Path, run: Path) -> Iterator[Runner]:
    """A runner, and the folder outside that it looks after."""
    with Outside(base / "outside") as outside:
        running = Runner(base / "cases", outside, run)
        try:
            yield running
        finally:
            running.close()


def _problems(case: Case, answer: dict[str, Any], said: str) -> Iterator[str]:
    if answer["late"]:
        yield "it hangs"
    elif answer["code"] in (-signal.SIGXCPU, -signal.SIGKILL):
        yield f"stopped after {answer['seconds']:.0f} s of CPU"
    elif answer["code"] not in case.codes:
        yield f"exit code {answer['code']}, not one of {sorted(case.codes)}"
    if answer["peak"] > MOST_MB:
        yield f"{answer['peak']:.0f} MB"
    if "internal error" in said or "Traceback" in said:
        yield "an internal error"
    if found := _CONTROL.search(said):
        yield f"the control character {found[0]!r} on the terminal"
    if CANARY in said:
        yield "a secret on the terminal"
    if not re.search(case.says, said):
        yield f"it does not say {case.says!r}"


def _stamps(root: Path) -> dict[bytes, tuple[int, int]]:
    """Size and time of everything below a folder; no file is read, for some say they have gigabytes."""
    found = {}
    for top, folders, files in os.walk(os.fsencode(root)):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(top, name))
            found[os.path.join(top, name)] = (status.st_size, status.st_mtime_ns)
    return found


def _leaks(folder: Path, place: Place) -> Iterator[str]:
    for top, _, files in os.walk(folder):
        if Path(top).is_relative_to(place.data):
            continue
        for path in (Path(top, name) for name in files):
            if path != place.config and path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    if CANARY.encode() in file.read(_LOOK):
                        yield str(path.relative_to(folder))


def table(outcomes: list[Outcome]) -> str:
    """The results by kind, for people."""
    lines = [f"{'kind':<14} {'inputs':>6} {'as wanted':>9} {'most CPU, s':>11} {'most, MB':>8}"]
    kinds = dict.fromkeys(outcome.case.kind for outcome in outcomes)
    for kind in (*kinds, ""):
        its = [o for o in outcomes if kind in ("", o.case.kind)]
        good = sum(not o.wrong for o in its)
        slowest, most = max(o.seconds for o in its), max(o.peak for o in its)
        lines.append(f"{kind or 'all':<14} {len(its):>6} {good:>9} {slowest:>11.1f} {most:>8.0f}")
    return "\n".join(lines)
