"""Run the grid cell by cell. A cell that its data end is noted, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fairsynth.commands.bench.grid import Cell, cells
from fairsynth.commands.bench.measure import measured
from fairsynth.commands.bench.output import FOLDER, write
from fairsynth.commands.bench.published import published_for
from fairsynth.commands.bench.rows import Failed, Measured
from fairsynth.commands.settled import settled
from fairsynth.config import RunConfig
from fairsynth.config.load import changed
from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import printable
from fairsynth.models.hub.pinning import pinned
from fairsynth.pipeline import STAGES, through
from fairsynth.preflight import check_early, worded
from fairsynth.stages.context import Context, opened_for_work
from fairsynth.watching.redaction import redacted


class Benched(NamedTuple):
    """Result of a bench: its folder, the number of its cells, and of those that failed for a reason of their data."""

    folder: Path
    cells: int
    failed: int


def check(config: RunConfig, root: Path) -> None:
    """Look at every cell before anything runs.

    Raises ConfigError for an impossible setting of any cell. Raises DataError where the config's own dataset cannot be
    used in some cell, or one of several datasets in none; what one of several cannot have alone is left to ``bench``.
    """
    known: dict[str, DataError | None] = {}
    refused: dict[str, list[DataError | None]] = {}
    for cell in cells(config):
        own = cell.config(config)
        key = own.model_dump_json(include={"data", "models", "cluster", "finetune", "synthesize"})
        if key not in known:
            known[key] = _refusal(cell, own, root)
        refused.setdefault(cell.dataset, []).append(known[key])
    for name, found in refused.items():
        errors = [error for error in found if error]
        if errors and (not name or len(errors) == len(found)):
            raise errors[0]


def _refusal(cell: Cell, own: RunConfig, root: Path) -> DataError | None:
    """Why the cell's data are refused. Raises ConfigError for its settings."""
    where = f"dataset {cell.dataset!r}: " if cell.dataset else ""
    try:
        check_early(settled(own), root)
    except DataError as error:
        return DataError(f"{where}{error}")
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None
    return None


def bench(config: RunConfig, say: Callable[[str], None] = print, max_worker_hours: float | None = None) -> Benched:
    """Run the grid and write ``bench/``: table.md, table.csv, bench.json, curve.png.

    A cell that ends with DataError is noted in the table. Raises ConfigError for a cell with impossible settings, before
    anything runs, DataError for datasets that cannot be told apart, BudgetReached once ``max_worker_hours`` are used, and
    what else the stages raise.
    """
    grid = cells(config)
    configs = [cell.config(config) for cell in grid]
    published = published_for(configs[0]) if len(config.bench.datasets) < 2 else ()
    outcomes: list[Measured | Failed] = []
    failed = 0
    with opened_for_work(config, None, max_worker_hours) as base:
        if len(config.bench.datasets) > 1:
            _check_apart(base, {cell.dataset: own for cell, own in zip(grid, configs, strict=True)})
        for number, (cell, own) in enumerate(zip(grid, configs, strict=True), 1):
            base.cell(number, len(grid), _title(cell, config.bench.seeds))
            say(f"[{number}/{len(grid)}] {_title(cell, config.bench.seeds)}: {', '.join(cell.methods)}")
            found = _outcomes(base, cell, own, say)
            failed += isinstance(found[0], Failed)
            outcomes += found
            write(base.root, config, outcomes, published)
    return Benched(base.root / FOLDER, len(grid), failed)


def _title(cell: Cell, repetitions: int) -> str:
    parts = [printable(cell.dataset)] if cell.dataset else []
    parts += [cell.level, "biased validation"] if cell.validation == "biased" else [cell.level]
    parts += [printable(cell.variant) or "real images"]
    return ", ".join([*parts, *([f"repetition {cell.repetition}"] if repetitions > 1 else [])])


def _outcomes(base: Context, cell: Cell, own: RunConfig, say: Callable[[str], None]) -> Sequence[Measured | Failed]:
    """Run a cell. Of its methods each has an outcome."""
    try:
        own = settled(own)
        metadata = check_early(own, base.root)
        context = Context(pinned(worded(own, metadata), say), base.root, base.session, metadata=metadata)
        through(context, "evaluate", lambda line: say(f"  {line}"))
        return measured(context, cell)
    except DataError as error:
        why = redacted(str(error))  # it is shown in the table, too
        say(f"  failed: {printable(why)}")
        place = (cell.variant, cell.level, cell.repetition, why, cell.dataset, cell.validation)
        return [Failed(method, *place) for method in cell.methods]


def _check_apart(base: Context, of_datasets: dict[str, RunConfig]) -> None:
    """Raise DataError for two folders whose files all have the same names, sizes and times, and so the same artifacts.

    Until files are read these stand for their content; a dataset would get the other's images.
    """
    roots: dict[str, tuple[str, Path | str]] = {}
    for name, own in of_datasets.items():
        if own.data.format == "demo":  # written below the output folder, by its seed and severity
            continue
        context = Context(changed(own, {"data.severity": None}), base.root, base.session)
        root = context.dataset.storage.local or own.data.root
        root = root.resolve() if isinstance(root, Path) else root
        other, place = roots.setdefault(STAGES["ingest"].artifact(context).fingerprint, (name, root))
        if place != root:
            raise DataError(
                f"datasets {other!r} and {name!r} cannot be told apart: their files have the same names, sizes and times. "
                "If they are not copies, touch the files of one"
            )
