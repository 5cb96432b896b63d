"""Runs a stage's units on actors of Ray Data; every unit is committed by the actor that made it."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fairsynth.artifacts import Units
from fairsynth.engine.each_node import require_shared
from fairsynth.engine.failures import packed, translated, unpacked
from fairsynth.engine.lifetime.beats import Beats
from fairsynth.engine.lifetime.hangs import replaced
from fairsynth.engine.session import Room, Session
from fairsynth.engine.train import Tally, run_jobs
from fairsynth.errors import FairsynthError
from fairsynth.work import Ran, Tables, Task, Work, startup, write_tables

if TYPE_CHECKING:
    from fairsynth.models.data_parallel import Ranks

# Ray Data spends some milliseconds of the driver on every block: with very many units, a block holds several.
MOST_BLOCKS = 512
# A block holds at most one part in so many of what each worker would still get: blocks become smaller towards the end.
_SHARES = 2


def run_data_parallel(
    session: Session, stage: str, units: Units, names: Sequence[str], make: Callable[[], Any], room: Callable[[], Room]
) -> Ran:
    """Make each unit on several workers, data parallel: ``make()(task, ranks)``; the first worker commits.

    Raises as ``run_units`` does.
    """
    units.sweep()
    done, began = units.done(), time.time()
    pending = [name for name in names if name not in done]
    if not pending:
        return Ran(0, len(names))
    jobs = {name: partial(_data_parallel_unit, units, name, make) for name in pending}
    first: list[float] = []
    tally = Tally(len(names), lambda: len(units.done_lately().intersection(names)))
    for ended in run_jobs(session, stage, jobs, units.path.parent / "ray", room(), tally):
        if isinstance(ended, FairsynthError):
            raise ended
        first.append(ended)
    return Ran(len(pending), len(names) - len(pending), startup(began, min(first)))


def _data_parallel_unit(
    units: Units, name: str, make: Callable[[], Any], ranks: Ranks, machine_goes: Callable[[], bool]
) -> None:
    tables = make()({"name": name}, ranks)
    if ranks.first:
        units.commit(name, partial(write_tables, tables))


def run_units(
    session: Session,
    stage: str,
    units: Units,
    names: Sequence[str],
    make: Callable[[], Work],
    prepare: Callable[[str], Task] | None = None,
    models: bool = True,
    per_call: int = 1,
) -> Ran:
    """Make the missing units on a pool of actors.

    ``make`` builds the work inside each actor (models load once); ``prepare`` is CPU work that
    runs ahead of it. Without ``models`` the work is CPU work too, and no actor holds a GPU or loads
    torch. ``per_call``: units that an actor may be handed at once, so that it can begin one before it
    finishes another. Raises the FairsynthError that a unit raised, InfrastructureError, or BudgetReached.
    """
    units.sweep()
    done = units.done()
    pending = [name for name in names if name not in done]
    if not pending:
        return Ran(0, len(names), 0.0)
    require_shared(session, units.path.parent)
    began = time.time()
    import ray

    worker = session.worker() if models else session.cpu_worker()
    size = min(worker.count, len(pending))
    _quiet(ray)
    if prepare is not None:
        dataset = ray.data.from_items([{"name": name} for name in pending], override_num_blocks=len(pending))
        dataset = dataset.map(_Prepare(prepare))
    else:
        rows = [{"names": json.dumps(names)} for names in _blocks(pending, worker.count, per_call)]
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset = dataset.map_batches(
        _UnitActor,
        fn_constructor_args=(make, units, worker.threads if models else 0, _beats(session, stage)),
        batch_size=1,  # a row is a block, and Ray Data wants a number where there are GPUs
        num_cpus=worker.cpus,
        num_gpus=worker.gpus,
        compute=ray.data.ActorPoolStrategy(size=size),
    )
    before = len(names) - len(pending)
    hang = replaced(stage, session.resources.hang_seconds, session.progress.root)
    with hang, session.progress.work(stage, len(names), before, size) as work:
        return Ran(len(pending), before, _drained(stage, dataset, began, work.tick))


def _beats(session: Session, stage: str) -> Beats:
    return Beats(stage, session.resources.hang_seconds)


def _drained(stage: str, dataset: Any, began: float, tick: Callable[[float], None]) -> float:
    """Run a dataset to its end; returns mean start-up seconds per worker. Raises the error of a unit that failed."""
    import ray

    ready: dict[str, float] = {}
    try:
        for row in dataset.iter_rows():
            if row["failure"]:
                raise unpacked(stage, row["failure"])
            ready.setdefault(row["worker"], startup(began, row["began"]))
            tick(float(row["began"]))
    except ray.exceptions.RayError as error:
        raise translated(stage, error) from error
    return sum(ready.values()) / len(ready)


def _blocks(pending: Sequence[str], workers: int, per_call: int) -> list[list[str]]:
    """The blocks that units are handed out in, in their order: single units at the end, so that all workers end together."""
    most, start, blocks = max(per_call, -(-len(pending) // MOST_BLOCKS)), 0, list[list[str]]()
    while start < len(pending):
        size = max(1, min(most, (len(pending) - start) // (_SHARES * workers)))
        blocks.append([*pending[start : start + size]])
        start += size
    return blocks


def stream(session: Session, stage: str, batches: Iterable[list[dict[str, Any]]], work: Work) -> Iterator[pa.Table]:
    """CPU work on batches of rows, its tables as they come; nothing is stored, and only ids are held.

    ``work`` takes ``{"rows": [...]}`` and returns one table. Raises as ``run_units`` does.
    """
    session.connect()
    import ray

    _quiet(ray)
    dataset = ray.data.from_items([{"rows": json.dumps(rows)} for rows in batches])
    dataset = dataset.map_batches(_Streamed(work), batch_size=1, num_cpus=session.cpu_worker().cpus)
    try:
        for row in dataset.iter_rows():
            if row["failure"]:
                raise unpacked(stage, row["failure"])
            yield pa.ipc.open_stream(row["table"]).read_all()
    except ray.exceptions.RayError as error:
        raise translated(stage, error) from error


class _Streamed:
    """Runs the work on one batch of rows; the table travels as bytes, so Arrow need not unify anything."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        try:
            (table,) = self.work({"rows": json.loads(batch["rows"][0])}).values()
        except Exception as error:
            return {"table": [b""], "failure": [packed(error)]}
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return {"table": [sink.getvalue().to_pybytes()], "failure": [""]}


def _quiet(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # the run tells of errors itself


class _Prepare:
    """Makes a row of plain arrays and JSON text: what Arrow carries without guessing types."""

    def __init__(self, prepare: Callable[[str], Task]) -> None:
        self.prepare = prepare

    def __call__(self, row: Task) -> dict[str, Any]:
        try:
            prepared = self.prepare(row["name"])
        except Exception as error:
            return {"name": row["name"], "json": json.dumps({"_failure": packed(error, row["name"])})}
        arrays = {key: value for key, value in prepared.items() if isinstance(value, np.ndarray)}
        rest = {key: value for key, value in prepared.items() if key not in arrays}
        # An empty array has no place in a tensor column: its shape goes with the text.
        rest["_empty"] = {
            key: [list(value.shape), str(value.dtype)] for key, value in arrays.items() if value.size == 0
        }
        return {"name": row["name"], "json": json.dumps(rest), **{k: v for k, v in arrays.items() if v.size}}


class _UnitActor:
    """Builds the work once, then makes and commits the units it is handed, one after the other."""

    def __init__(self, make: Callable[[], Work], units: Units, threads: int, beats: Beats | None = None) -> None:
        if threads:
            import torch

            torch.set_num_threads(threads)
        self.units, self.name, self.failure = units, uuid.uuid4().hex, ""
        self.beats = beats or Beats("", 0)
        try:
            self.work = make()
        except Exception as error:
            self.failure = packed(error)

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        waiting: Callable[[], str] = _nothing
        for task in _tasks(batch):
            began = time.time()
            finish = self.begun(task)
            failure = waiting()
            waiting = finish
            yield self._row(began, failure)
        failure = waiting()
        if failure:
            yield self._row(time.time(), failure)

    def _row(self, began: float, failure: str) -> dict[str, Any]:
        return {"began": np.array([began]), "worker": np.array([self.name]), "failure": np.array([failure])}

    def begun(self, task: dict[str, Any]) -> Callable[[], str]:
        """Begin a unit; returns a function that finishes and commits it and returns its failure, empty if none."""
        if self.failure:
            return lambda: self.failure
        rest = json.loads(task.pop("json", "{}"))
        if "_failure" in rest:
            return lambda: str(rest["_failure"])
        for key, (shape, dtype) in rest.pop("_empty", {}).items():
            task[key] = np.zeros(shape, dtype)
        name = str(task["name"])
        if self.units.has(name):
            return _nothing  # made before its actor was lost
        try:
            self.beats.begin(name)
            make = _in_two_parts(self.work, {**task, **rest})
        except Exception as error:
            self.beats.end(name)
            failure = packed(error, name)
            return lambda: failure
        return partial(self._commit, name, make)

    def _commit(self, name: str, make: Callable[[], Tables]) -> str:
        try:
            self.units.commit(name, lambda folder: write_tables(make(), folder))
        except Exception as error:
            return packed(error, name)
        finally:
            self.beats.end(name)
        return ""


def _tasks(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The units of a batch: those that a row names, or one that was prepared for each row."""
    if "names" in batch:
        return [{"name": name} for names in batch["names"] for name in json.loads(str(names))]
    return [{key: value[place] for key, value in batch.items()} for place in range(len(batch["name"]))]


def _in_two_parts(work: Any, task: Task) -> Callable[[], Tables]:
    """Begin the work if it has two parts; returns a function that makes the rest."""
    if not hasattr(work, "begin"):
        return partial(work, task)
    return partial(work.finish, work.begin(task))


def _nothing() -> str:
    return ""
