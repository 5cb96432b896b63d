"""How far a run is: one object of a session, on which bar, heartbeat, progress.json, gauges and the budget hang."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from fairsynth import interrupts
from fairsynth.engine.budget import Budget
from fairsynth.engine.gauges import Gauges
from fairsynth.engine.heartbeat import Heartbeat
from fairsynth.errors import BudgetReached
from fairsynth.watching import log, record
from fairsynth.watching.bars import Bar, at_terminal
from fairsynth.watching.redaction import redacted

# Seconds: between looks at what is done; between records, and between records when nothing has changed.
LOOK, RECORD, SIGN = 1.0, 1.0, 10.0
# Seconds, so that whoever stops when its time is over finds the budget used up.
_ROUNDING = 0.1


class Work:
    """A piece of a stage's work on the cluster: units of which some are done, on so many workers."""

    def __init__(self, progress: Progress, beat: Heartbeat, workers: int, count: Callable[[], float] | None) -> None:
        self.progress, self.beat, self.workers, self.count = progress, beat, workers, count
        self.spent_until, self._lock, self._ended = time.monotonic(), Lock(), False

    def tick(self, began: float | None = None) -> None:
        """Count one more unit, ``began`` by its worker's clock (``time.time``): what came before the first is start-up.

        Raises BudgetReached if units are left and no worker-hours.
        """
        if began is not None:
            self.beat.ready(time.time() - began)
        self.set_done(self.beat.done + 1)

    def set_done(self, done: float) -> None:
        """Set the number of finished units, of those under way their parts. Raises as ``tick`` does."""
        self.spend()
        self.beat.set_done(done)
        if done < self.beat.total:
            self.progress.budget.check(
                f"stage {self.beat.stage} with {int(done)} of {self.beat.total} done",
                int(done) > int(self.beat.first),
            )

    def look(self) -> None:
        """The same, counted by ``count``; where somebody ticks, only the time is counted."""
        if self.count is not None:
            self.set_done(self.count())
        else:
            self.spend()
            self.beat.tell()

    def spend(self) -> None:
        """Count the workers' seconds until now, each second once, whichever thread asks."""
        with self._lock:
            now = time.monotonic()
            if not self._ended:
                self.progress.budget.spend(self.workers, now - self.spent_until)
            self.spent_until = now

    def end(self) -> None:
        """The work is over: a look that comes back late counts nothing more."""
        self.spend()
        self._ended = True

    @property
    def seconds_allowed(self) -> float | None:
        """Seconds that the budget allows all workers from now on; None without a limit."""
        left = self.progress.budget.seconds_left
        return None if left is None else left / self.workers + _ROUNDING


class Progress:
    """Progress of a session; without ``root`` nothing is recorded and nothing is drawn."""

    def __init__(self, root: Path | None = None, budget: Budget | None = None) -> None:
        self.root, self.budget, self.gauges = root, budget or Budget(), Gauges()
        self.bar = Bar() if root is not None and at_terminal() else None
        self.stages, self.bench_cell = dict[str, dict[str, Any]](), dict[str, Any]()
        self.stage_name, self.work_now = "", None
        self._quarantined, self._folder = dict[str, int](), _working_folder()
        self._began, self._written, self._counted = time.time(), 0.0, (0, 0)
        self._retried_before = self._failures()
        self._lock, self._over, self._thread = Lock(), Event(), None

    work_now: Work | None
    _thread: Thread | None

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[str, Mapping[str, Any], bool], None]]:
        """A stage is at work; the function that this gives takes its folder and record, and whether it was there before."""
        self.stage_name, self.stages[name] = name, {"state": "running", "began": time.time()}
        log.enter(name)
        self._watch()
        if self.bar:
            self.bar.begin(name)
        self.write()
        yield partial(self._finished, name)
        self.stage_name = ""
        if self.bar:
            self.bar.end()
        self.write()

    @contextmanager
    def work(
        self, stage: str, total: int, done: float, workers: int, count: Callable[[], float] | None = None
    ) -> Iterator[Work]:
        """Work of a stage on the cluster. ``count`` says how many units are done, where nobody ticks.

        Raises BudgetReached at once if no worker-hours are left.
        """
        self.budget.check(f"stage {stage} with {int(done)} of {total} done")
        beat = Heartbeat(stage, total, done, quiet=self.bar is not None)
        self.work_now = work = Work(self, beat, max(1, workers), count)
        try:
            yield work
        finally:
            work.spend()
            with suppress(Exception):  # an error of the work is the one to be told
                self._show()
            self.work_now = None
            work.end()

    def cell(self, number: int, total: int, title: str) -> None:
        """Of several runs in one folder (a bench), which one begins; the first is 1."""
        self.bench_cell, self.stages = {"number": number, "total": total, "title": title}, {}
        self.write()

    def close(self, error: BaseException | None = None) -> None:
        """The work has ended, by an error or well; the terminal is as it was."""
        self._over.set()
        if self.bar:
            self.bar.end()
        if self._thread is not None:
            self._thread.join(timeout=5)
        if self.stages or self.bench_cell:
            self._end(error)

    def cut_off(self, error: BaseException) -> None:
        """The process is ended by force: the record and the log say how, as they do of other ends."""
        self._over.set()
        log.note(log.ENDED, log.ending(error), how=log.ending(error))
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        for facts in self.stages.values():
            facts["state"] = "stopped" if facts["state"] == "running" else facts["state"]
        self.write(ended=_ending(error))

    def found(self, name: str, folder: str, facts: Mapping[str, Any]) -> None:
        """A stage was finished before, and is not looked at."""
        self.stages[name] = {}
        self._finished(name, folder, facts, cached=True)

    def failed(self, stage: str, unit: str, why: str) -> None:
        """Note that a unit has no result."""
        log.failed(stage, unit, why)

    def write(self, ended: Mapping[str, Any] | None = None) -> None:
        """Write the record now; once the work is over only how it ``ended``, however late a look comes back."""
        if self.root is None:
            return
        with self._lock, suppress(Exception):  # what people see is no reason to stop
            if self._over.is_set() and ended is None:
                return
            self._written = time.monotonic()
            record.write(self.root, self._content() | {"ended": ended})

    def _finished(self, name: str, folder: str, facts: Mapping[str, Any], cached: bool) -> None:
        counts = facts.get("counts", {})
        self.stages[name] |= {
            "state": "cached" if cached else "finished",
            "folder": folder,
            "seconds": facts.get("seconds"),
            "summary": facts.get("summary", ""),
        }
        self._quarantined[folder] = counts.get("quarantined", 0)  # cells of a bench share their first stages
        for outcome in ("used", "excluded", "quarantined"):
            self.gauges.put("fairsynth_images", counts.get(outcome, 0), stage=name, outcome=outcome)

    def _content(self) -> dict[str, Any]:
        work = self.work_now
        now: dict[str, Any] = {"stage": self.stage_name}
        if work is not None and self.stage_name:
            beat = work.beat
            rate, left = beat.pace()
            now |= {
                "done": int(beat.done),
                "total": beat.total,
                "reached": round(beat.done, 3),
                "rate": rate,
                "seconds_left": left,
            }
            now |= {"workers": work.workers}
        return {
            "schema": 1,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": self._began,
            "updated_at": time.time(),
            "command": record.command_line(),
            "folder": self._folder,
            "cell": self.bench_cell or None,
            "stages": self.stages,
            "now": now,
            "failures": {"quarantined": sum(self._quarantined.values()), "retried": self._retried()},
            "worker_hours": round(self.budget.used, 4),
            "max_worker_hours": self.budget.hours,
        }

    def _watch(self) -> None:
        if self.root is not None and self._thread is None:
            self._thread = Thread(target=self._look, daemon=True)
            self._thread.start()

    def _look(self) -> None:
        """Keep bar, record and gauges current until the end, whatever the main thread waits for."""
        while not self._over.wait(LOOK):
            with suppress(Exception):  # what people see is no reason to stop
                self._show()
                self.gauges.again()
                if time.monotonic() - self._written >= (RECORD if self._moved() else SIGN):
                    self.write()

    def _show(self) -> None:
        work = self.work_now
        if work is None:
            return
        with suppress(BudgetReached):  # the main thread finds out by itself
            work.look()
        beat, retried = work.beat, self._retried()
        rate, left = beat.pace()
        if self.bar:
            notes = [f"{record.pieces(beat.done)}/{beat.total}", f"{rate:.2f}/s" if left is not None else ""]
            notes += [f"{record.clock(left)} left" if left else "", f"{retried} failures" if retried else ""]
            self.bar.show(beat.done, beat.total, "  ".join(filter(None, notes)))
        self.gauges.put("fairsynth_units_done", beat.done, stage=beat.stage)
        self.gauges.put("fairsynth_units_total", beat.total, stage=beat.stage)
        self.gauges.put("fairsynth_worker_hours", self.budget.used)
        self.gauges.put("fairsynth_failures", retried)

    def _moved(self) -> bool:
        now = (self.work_now.beat.done if self.work_now else None, self.stage_name)
        moved, self._last = now != getattr(self, "_last", None), now
        return moved

    def _failures(self) -> int:
        """Failures in the folder's log after which work was tried again, of earlier invocations too."""
        if self.root is None:
            return 0
        path = self.root / log.FOLDER / log.FAILURES
        with suppress(OSError):
            size = path.stat().st_size
            if size != self._counted[0]:
                self._counted = size, sum(line.get("again") is True for line in log.lines(path))
        return self._counted[1]

    def _retried(self) -> int:
        return max(0, self._failures() - self._retried_before)


@contextmanager
def watched(root: Path | None = None, max_worker_hours: float | None = None) -> Iterator[Progress]:
    """The progress of work in an output folder, with its log, until the work ends, by an error or well."""
    if root is None:
        yield Progress(None, Budget(max_worker_hours))
        return
    with log.logged(root, record.command_line()):
        progress = Progress(root, Budget(max_worker_hours))
        undo = interrupts.before_a_hard_end(progress.cut_off)
        try:
            yield progress
        except BaseException as error:
            progress.close(error)
            raise
        finally:
            undo()
        progress.close()


def _working_folder() -> str | None:
    with suppress(OSError):  # it was removed
        return os.getcwd()
    return None


def _ending(error: BaseException | None) -> dict[str, Any]:
    how = log.ending(error)
    return {"how": how, "why": "" if how in ("finished", "interrupted") else redacted(str(error))[:2000]}
