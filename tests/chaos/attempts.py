"""One whole run under strikes: the same command again and again, until it ends with 0."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.chaos import processes
from tests.chaos.hooks.sitecustomize import JOURNAL
from tests.chaos.places import Disk, environment

# Seconds after which an attempt that nobody strikes counts as hung.
_HUNG = 1800.0
# Seconds within which Ray's processes must have gone after a driver.
_GONE = 15.0
# The exit code where another run holds the output, and seconds until the next call then.
IN_USE, _PAUSE = 6, 10
_MOST_CALLS = 500
_ENDINGS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
_WRONG = re.compile(r"internal error|Traceback \(most recent call last\)")


@dataclass
class Strike:
    """What was done to whom, how many seconds after an attempt's start, and how the attempt then went on."""

    kind: str
    attempt: int
    after: float
    victims: list[str]


@dataclass
class Attempt:
    """How one call of the command ended."""

    code: int
    seconds: float
    after_last_strike: float | None
    said: str
    wrong: list[str]
    left: list[str]


@dataclass
class Outcome:
    """A whole run: its strikes and attempts, and what became of units on the way."""

    name: str
    strikes: list[Strike] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    repeated: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    finished: bool = False

    def to_json(self) -> dict[str, object]:
        """As the results file has it."""
        return asdict(self)


class Whole:
    """A whole run at a place; ``words``: the command's arguments but for the output."""

    def __init__(self, place: Disk, name: str, words: list[str], rng: random.Random, gap: tuple[float, float]) -> None:
        self.place, self.name, self.words, self.rng, self.gap = place, name, words, rng, gap
        self.out, self.outcome = place.out(name), Outcome(name)
        self.began, self.logs = time.time(), place.folder / f"{name}-logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.seen: dict[str, object] = {}
        self.last: float | None = None

    @property
    def seconds(self) -> float:
        """Of all attempts."""
        return sum(attempt.seconds for attempt in self.outcome.attempts)

    def run(self, strikes: int) -> Outcome:
        """Strike at most so often; then let it end. Afterwards ``finished`` tells whether it did."""
        # Others than those that find the output held by one that was killed.
        most, number = strikes + 5, 0
        while sum(attempt.code != IN_USE for attempt in self.outcome.attempts) < most and number < _MOST_CALLS:
            self.place.renew()
            attempt = self._attempt(number, strikes - len(self.outcome.strikes))
            self.outcome.attempts.append(attempt)
            self._look()
            print(f"  {self.name} attempt {number}: {attempt.code} after {attempt.seconds:.0f} s", flush=True)
            if attempt.code == 0:
                self.outcome.finished = True
                break
            number += 1
            time.sleep(_PAUSE if attempt.code == IN_USE else 0)
        self.outcome.repeated = self._repeated()
        return self.outcome

    def _attempt(self, number: int, strikes: int) -> Attempt:
        began, log = time.monotonic(), self.logs / f"stderr-{number}.txt"
        with log.open("wb") as err:
            driver = subprocess.Popen(
                [sys.executable, "-m", "fairsynth.cli", "run", *self.words, "--out", self.out],
                stdout=subprocess.DEVNULL,
                stderr=err,
                env=os.environ | environment(self.place.folder) | self.place.environment(),
                cwd=self.place.folder,
                start_new_session=True,
            )
        self.last, family = None, list[psutil.Process]()
        following = began + self.rng.uniform(*self.gap)
        while driver.poll() is None:
            time.sleep(0.2)
            now = time.monotonic()
            if strikes > 0 and now >= following:
                family += [one for one in processes.below(driver.pid) if one not in family]
                self._strike(number, driver, now - began)
                strikes, following = strikes - 1, time.monotonic() + self.rng.uniform(*self.gap)
            if now - (self.last or began) > _HUNG:
                self.outcome.strikes.append(Strike("hung", number, round(now - began, 1), ["driver"]))
                driver.kill()
                driver.wait()
        ended = time.monotonic()
        left = self._left(family)
        said = log.read_text("utf-8", "replace")
        since = None if self.last is None else ended - self.last
        return Attempt(driver.returncode, ended - began, since, said[-600:], sorted(set(_WRONG.findall(said))), left)

    def _left(self, family: list[psutil.Process]) -> list[str]:
        """Ray's processes that a driver left; they are ended then."""
        left = processes.still_there(family, _GONE)
        names = [processes.name(one) for one in left]
        for one in left:
            processes.end(one.pid)
        return names

    def _strike(self, number: int, driver: subprocess.Popen[bytes], after: float) -> None:
        self._look()
        kinds = self.place.kinds
        (kind,) = self.rng.choices([*kinds], [*kinds.values()])
        draw = self.rng.random()
        kind, victims = self._do(kind, draw, driver)
        self.last = time.monotonic()
        self.outcome.strikes.append(Strike(kind, number, round(after, 1), victims))

    def _do(self, kind: str, draw: float, driver: subprocess.Popen[bytes]) -> tuple[str, list[str]]:
        """Strike; the driver, where nobody else is there to be struck. Returns the kind and the victims."""
        there = self.place.processes(driver.pid)
        if kind == "store":
            return kind, self.place.fail_for(3 + 12 * draw, "unavailable" if draw < 0.5 else "hang")
        if kind == "node":
            return kind, [self.place.lose_node(int(draw * 1000))]
        if kind == "everything":
            # The driver first: else it could tell what happened to its Ray.
            driver.kill()
            return kind, ["driver", *processes.send(there, signal.SIGKILL)]
        if kind in _ENDINGS:
            driver.send_signal(_ENDINGS[kind])
            return kind, ["driver"]
        found = processes.of_kind(there, "worker" if kind == "stopped" else kind) if kind != "driver" else []
        if found:
            one = found[int(draw * len(found))]
            if kind == "stopped":
                return kind, processes.stopped_for([one], 3 + 5 * draw)
            return kind, processes.send([one], signal.SIGKILL)
        driver.kill()
        return "driver", ["driver"]

    def _look(self) -> None:
        """Compare what is committed with what was before."""
        now = self.place.committed(self.out)
        self.outcome.lost += [
            f"{name} (attempt {len(self.outcome.attempts)})" for name in self.seen.keys() - now.keys()
        ]
        self.outcome.double += [name for name in self.seen.keys() & now.keys() if self.seen[name] != now[name]]
        self.seen = now

    def _repeated(self) -> dict[str, int]:
        """How often units of Ray Data's actors were begun again."""
        lines = (line for line in journal(self.place.folder) if line["time"] >= self.began)
        counts = Counter(line["unit"] for line in lines if line["what"] == "begun")
        return {unit: n - 1 for unit, n in sorted(counts.items()) if n > 1}


def journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of a journal."""
    path = folder / JOURNAL
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]
