"""The grid of methods, generators, severities and repetitions: the paper's table, for any dataset.

Each cell is a config, and its stages are artifacts like those of a run: cells share what is equal, and the same command
resumes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairsynth.artifacts import Artifact, write_json
from fairsynth.classify.methods import SYNTHETIC
from fairsynth.classify.policies import POLICIES
from fairsynth.commands.bench.published import TABLES, Published
from fairsynth.commands.bench.table import Measured, markdown, rows, to_csv, to_json
from fairsynth.config import RunConfig
from fairsynth.config.load import changed, load_config
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.pipeline import through
from fairsynth.stages.context import Context, opened
from fairsynth.stages.evaluate.output import read_predictions
from fairsynth.stages.synthesize.output import group_records

FOLDER = "bench"
_POLICIES = {
    ", ".join(policy): {f"classify.{part}": value for part, value in policy._asdict().items()} for policy in POLICIES
}
_PAPERS = _POLICIES[", ".join(POLICIES[0])]
# Questions that the paper leaves open: each policy alone, then one change at a time under the paper's policy. There the
# encoder learns from synthetic images alone, so their worth is clearest.
ABLATION: Mapping[str, Mapping[str, Any]] = {
    **_POLICIES,
    **{f"beta {b}": {"classify.beta": b, **_PAPERS} for b in (0.25, 0.5, 0.75, 1.0)},
    **{f"k {k}": {"cluster.k": k, **_PAPERS} for k in (1, 2, 5, "auto")},
    **{f"text weight {a}": {"filter.text_weight": a, **_PAPERS} for a in (0.0, 0.5, 1.0, "random")},
    **{f"{n} per group": {"synthesize.per_group": n, **_PAPERS} for n in (100, 300, 1000)},
}


@dataclass(frozen=True)
class Cell:
    """Methods that are trained on the same images: real ones alone, or those of one generator or variant."""

    severity: float | None
    repetition: int
    methods: tuple[str, ...]
    variant: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> str:
        """The severity for people."""
        return "original" if self.severity is None else f"{self.severity * 100:g} %"

    def config(self, base: RunConfig) -> RunConfig:
        """The config of its run. Raises ConfigError for an unknown or impossible setting."""
        own = {"data.severity": self.severity, "tune.methods": list(self.methods), "seed": base.seed + self.repetition}
        return changed(base, {**self.settings, **own})


def cells(config: RunConfig) -> list[Cell]:
    """All cells in running order: severity by severity, the cheap ones first.

    Raises ConfigError if no cell is left, or if a variant has no name or another row's.
    """
    taken = {*config.bench.generators, *(ABLATION if config.bench.ablation else ())}
    for name in config.bench.variants:
        if not name.strip() or name in taken:
            raise ConfigError(
                f"bench.variants: {name!r} is no name for a variant: it must be one that no other row has"
            )
    grid = [
        cell
        for severity in config.bench.severities
        for repetition in range(config.bench.seeds)
        for cell in _cells(config, severity, repetition)
    ]
    if not grid:
        raise ConfigError(
            "nothing to compare: ffr needs vanilla among bench.generators, and fairsynth a generator or a variant"
        )
    return grid


def _cells(config: RunConfig, severity: float | None, repetition: int) -> Iterator[Cell]:
    bench = config.bench
    real = tuple(method for method in bench.methods if method not in SYNTHETIC)
    if real:
        yield Cell(severity, repetition, real)
    for generator in bench.generators:
        methods = tuple(m for m in bench.methods if m == "fairsynth" or (m == "ffr" and generator == "vanilla"))
        if methods:
            settings: dict[str, Any] = {"finetune.generator": generator}
            if config.finetune.parameters == "full" and generator == "lora":
                settings["finetune.parameters"] = "adapter"
            yield Cell(severity, repetition, methods, generator, settings)
    for name, more in {**(ABLATION if bench.ablation else {}), **bench.variants}.items():
        yield Cell(severity, repetition, ("fairsynth",), name, more)


def bench(config: RunConfig, say: Callable[[str], None] = print) -> Path:
    """Run the grid and write ``bench/``: table.md, table.csv, bench.json, curve.png. Returns that folder.

    Raises ConfigError for a cell with impossible settings, before anything runs, and what the stages raise.
    """
    grid = cells(config)
    configs = [cell.config(config) for cell in grid]
    measured: list[Measured] = []
    with opened(config) as base:
        for number, (cell, own) in enumerate(zip(grid, configs, strict=True), 1):
            what = f"{cell.level}, {printable(cell.variant) or 'real images'}" + (
                f", repetition {cell.repetition}" if config.bench.seeds > 1 else ""
            )
            say(f"[{number}/{len(grid)}] {what}: {', '.join(cell.methods)}")
            context = Context(own, base.root, base.session)
            through(context, "evaluate", lambda line: say(f"  {line}"))
            measured += _measured(context, cell)
            write(base.root, config, measured)
    return base.root / FOLDER


def _measured(context: Context, cell: Cell) -> list[Measured]:
    from fairsynth.metrics import more_figures, score_methods

    predictions = read_predictions(context.artifacts["evaluate"])
    more = more_figures(predictions, context.group_names[0])
    images, seconds = _generation(context)
    return [
        Measured(
            scores.name,
            cell.variant,
            cell.level,
            cell.repetition,
            scores,
            images if scores.name in SYNTHETIC else 0,
            (seconds if scores.name in SYNTHETIC else 0.0)
            + sum(context.artifacts[stage].record["worker_seconds"][scores.name] for stage in ("tune", "evaluate")),
            more[scores.name],
        )
        for scores in score_methods(predictions, context.groups, context.train_counts)
    ]


def _generation(context: Context) -> tuple[int, float]:
    """Number of synthetic images made, and worker seconds (wall time x workers) of all stages up to them."""
    synthesized: Artifact | None = context.artifacts.get("synthesize")
    if synthesized is None:
        return 0, 0.0
    records = (context.artifacts[name].record for name in ("embed", "cluster", "finetune", "synthesize"))
    seconds = sum(record["seconds"] * record.get("workers", 1) for record in records)
    return sum(record.made for record in group_records(synthesized)), seconds


def _published(config: RunConfig) -> tuple[Published, ...]:
    """Figures of others for the same question: the preset's labels and attributes."""
    if config.data.format not in TABLES:
        return ()
    known = load_config(None, config.data.format).data
    same = all(getattr(config.data, n) == getattr(known, n) for n in ("label_column", "attribute_column", "options"))
    return TABLES[config.data.format] if same else ()


def write(root: Path, config: RunConfig, measured: list[Measured]) -> None:
    """Write the table as far as it is known; each file is old or new, never half."""
    from fairsynth.commands.bench.picture import draw

    table, folder = rows(measured), root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    published = _published(config)
    texts = {"table.md": markdown(table, published), "table.csv": to_csv(table)}
    for name, text in texts.items():
        partial = folder / f".{name}"
        partial.write_text(text, "utf-8")
        partial.replace(folder / name)
    facts = {"rows": to_json(table), "published": [p._asdict() for p in published]}
    write_json(
        folder / "bench.json", facts | {"config": json.loads(config.model_dump_json(exclude={"out", "resources"}))}
    )
    draw(table, folder / ".curve.png")
    shutil.move(folder / ".curve.png", folder / "curve.png")
