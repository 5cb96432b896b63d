"""Cells of a table: how fast each trainer is, what memory it takes, and what share of the card's speed that is.

The share is that of the card's own bf16 matrix product, by counted operations; recomputation does not count.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks.common import card, in_words, markdown_row, markdown_table, windows, write_json
from benchmarks.stacked.trainers import RANK, How, Step, at_once, operations
from fairsynth.models.stacked import StackedAdapters

BROKEN = "failed:"
FULL_MEMORY = "out of memory"
Row = dict[str, Any]


class Place(NamedTuple):
    """Where a cell is measured: a base model's shape at a size."""

    base: str
    how: How
    size: int


class Bench:
    """The cells measured so far, and the time left.

    ``settings``: what the command was given, with ``out`` (without a suffix), ``device``, ``window_s``, ``budget_s``,
    ``compile_s`` and ``alone``.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings, self.began = settings, time.monotonic()
        self.rows, self.networks, self.skipped = list[Row](), list[Row](), list[str]()
        self.cuda = settings["device"] == "cuda"
        self.machine = card(settings["device"], settings["window_s"])
        if self.cuda:
            self.machine["memory_gb"] = torch.cuda.get_device_properties(0).total_memory / 1e9

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def skip(self, what: str) -> None:
        """Note what is left out, and why."""
        self.skipped.append(what)
        print(f"skipped: {what}", flush=True)
        self.save()

    def network(self, place: Place, network: Any, each: list[int]) -> Row:
        """What is known of a network before it is trained: its size, its work, and how many adapters memory holds."""
        stack = StackedAdapters(network, RANK, RANK, place.how.base.family.targets)
        stack.remove()
        forward, both = operations(place.how, network, place.size)
        self.networks.append(
            {
                "base": place.base,
                "size": place.size,
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "weights of an adapter": stack.size,
                "forward_tflop": forward / 1e12,
                "sample_tflop": both / 1e12,
                "at_once": {count: self._at_once(place, network, count) for count in each},
            }
        )
        return self.networks[-1]

    def _at_once(self, place: Place, network: Any, each: int) -> int:
        """Of memory that is really free: torch keeps what it had."""
        self._clear()
        found = at_once(place.how, network, place.size, each)
        self._clear()
        return found

    def cell(
        self,
        place: Place,
        trainer: str,
        adapters: int,
        each: int,
        start: Callable[[], AbstractContextManager[Step]],
        compiles: bool = False,
    ) -> Row:
        """Measure one cell; if it cannot be, the row says why."""
        row: Row = {"base": place.base, "size": place.size, "trainer": trainer, "adapters": adapters, "each": each}
        row["note"], spent = "", self.spent
        if spent + (self.settings["compile_s"] if compiles else self._expected(row)) > self.settings["budget_s"]:
            row["note"] = f"skipped: {spent:.0f} s of the budget of {self.settings['budget_s']:.0f} s were spent"
        else:
            row["note"] = self._measure(place.how, row, start)
            row["took_s"] = self.spent - spent
            row["note"] = row["note"] or (f"{row['took_s']:.0f} s with compiling" if compiles else "")
            self._clear()
        self.rows.append(row)
        print(", ".join(f"{key} {value}" for key, value in row.items() if key != "seconds"), flush=True)
        self.save()
        return row

    def _clear(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def _known(self, row: Row) -> Row:
        return next(one for one in self.networks if (one["base"], one["size"]) == (row["base"], row["size"]))

    def _expected(self, row: Row) -> float:
        """Seconds that a cell should take: a dozen steps at a quarter of the card's rate, and what comes before them."""
        work = row["adapters"] * row["each"] * self._known(row)["sample_tflop"]
        return 4 + 12 * max(0.3, work / (0.25 * self.machine["matrix_tflops"])) if self.cuda else 0.0

    def _measure(self, how: How, row: Row, start: Callable[[], AbstractContextManager[Step]]) -> str:
        samples = row["adapters"] * row["each"]
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        try:
            batch = how.batch(row["size"], samples)
            with start() as step:
                row["seconds"] = windows(partial(step, batch), how.device, self.settings["window_s"])
        except torch.cuda.OutOfMemoryError:
            return FULL_MEMORY
        except Exception as error:  # a compiler can fail in any way; the other cells go on
            return f"{BROKEN} {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        row["samples_per_s"] = samples / median(row["seconds"])
        row["share"] = row["samples_per_s"] * self._known(row)["sample_tflop"] / self.machine["matrix_tflops"]
        row["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9 if self.cuda else None
        return ""

    def save(self) -> None:
        """Write what there is."""
        out: Path = self.settings["out"]
        settings = {name: value for name, value in self.settings.items() if name != "out"}
        content = {"machine": self.machine, "settings": settings, "networks": self.networks, "rows": self.rows}
        content["skipped"] = self.skipped
        write_json(out.with_suffix(".json"), content)
        out.with_suffix(".md").write_text(self.text(), "utf-8")

    def text(self) -> str:
        """Networks and cells in Markdown; ``x NAME``: times the samples/s of that one-adapter trainer at the same batch."""
        skipped = "".join(f"\nSkipped: {what}\n" for what in self.skipped)
        return f"{in_words(self.machine, '; ')}\n\n{_networks(self.networks)}\n\n{self._cells()}\n{skipped}"

    def _cells(self) -> str:
        usual = {_beside(row, row["trainer"]): row.get("samples_per_s") for row in self.rows if row["adapters"] == 1}
        names = self.settings["alone"]
        head = ["base", "pixels", "trainer", "adapters", "samples each", "steps/s", "samples/s (range)", "peak GB"]
        head += ["share of matrix rate", *(f"x {name}" for name in names), "note"]
        lines = []
        for row in self.rows:
            beside = [_times(row, usual.get(_beside(row, name))) for name in names]
            lines.append(markdown_row([*_figures(row), *beside, row["note"]]))
        return markdown_table(head, lines)


def _beside(row: Row, trainer: str) -> tuple[Any, ...]:
    return row["base"], row["size"], trainer, row["each"]


def _figures(row: Row) -> list[str]:
    first = [str(row[name]) for name in ("base", "size", "trainer", "adapters", "each")]
    if "seconds" not in row:
        return [*first, "", "", "", ""]
    samples, seconds = row["adapters"] * row["each"], row["seconds"]
    low, high = (f"{samples / end:.1f}" for end in (max(seconds), min(seconds)))
    peak = "" if row["peak_gb"] is None else f"{row['peak_gb']:.1f}"
    rates = [f"{1 / median(seconds):.2f}", f"{row['samples_per_s']:.1f} ({low} – {high})"]
    return [*first, *rates, peak, f"{row['share']:.1%}"]


def _times(row: Row, other: float | None) -> str:
    return f"{row['samples_per_s'] / other:.2f}" if other and "samples_per_s" in row else ""


def _networks(networks: list[Row]) -> str:
    head = ["base", "pixels", "parameters, M", "an adapter, M", "TFLOP forward", "TFLOP of a step"]
    lines = []
    for one in networks:
        millions = [f"{one[name] / 1e6:.2f}" for name in ("parameters", "weights of an adapter")]
        work = [f"{one[name]:.3g}" for name in ("forward_tflop", "sample_tflop")]
        fits = ", ".join(f"{n} with {each}" for each, n in one["at_once"].items())
        lines.append(markdown_row([one["base"], one["size"], *millions, *work, fits]))
    return markdown_table([*head, "adapters at once in free memory, with samples each"], lines)
