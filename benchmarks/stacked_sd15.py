"""Stacked LoRA at the size of Stable Diffusion 1.5 at 512 pixels, on one GPU: steps/s, samples/s, memory, share of its speed.

``python benchmarks/stacked_sd15.py --out RESULT`` writes RESULT.md and RESULT.json after every cell, and starts no cell
that ``--budget-s`` has no time for; ``--smoke`` tries the script on the CPU. Needs torch, diffusers and this checkout.
The UNet has SD 1.5's shape and random weights in bf16; batches are random and stay the same. Beside N adapters at once
there are one-adapter trainers at the same batch: peft under autocast as diffusers' scripts use it, peft all in bf16, plain
LoRA modules without hooks, and these compiled. All adapters are float32 but peft-bf16's; AdamW is torch's fused one.
The share of the card's speed is that of its own bf16 matrix product, by counted operations; recomputation does not count.
"""

from __future__ import annotations

import argparse
import gc
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import card, in_words, markdown_row, markdown_table, windows, write_json
from diffusers import UNet2DConditionModel, logging
from sd15_trainers import Batch, Step, alone_by, batch_of, build, stacked
from torch.utils.flop_counter import FlopCounterMode

from fairsynth.console import prepare_streams

# Seconds that a cell may take: what is not started cannot overrun the budget. Compiling is told by --compile-s.
ORDINARY = 12.0
BROKEN = "failed:"
ALONE = ("plain", "peft", "peft-bf16", "compiled")


def operations(chosen: argparse.Namespace, unet: UNet2DConditionModel) -> tuple[int, int]:
    """Counted operations of a sample's forward pass, and of a whole step of one adapter, without recomputation."""
    one, eager = batch_of(chosen, 1), argparse.Namespace(**vars(chosen) | {"compile_stacked": False})
    unet.disable_gradient_checkpointing()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        unet(*one[:3])
    with stacked(eager, unet, 1) as step, FlopCounterMode(display=False) as both:
        step(one)
    if chosen.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return forward.get_total_flops(), both.get_total_flops()


class Bench:
    """The cells measured so far, and the time left."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen, self.began, self.rows = chosen, time.monotonic(), list[dict[str, Any]]()
        self.facts: dict[str, Any] = {}

    def cell(
        self, trainer: str, adapters: int, each: int, start: Callable[[], AbstractContextManager[Step]]
    ) -> dict[str, Any]:
        """Measure one cell; if it cannot be, the row says why."""
        row: dict[str, Any] = {"trainer": trainer, "adapters": adapters, "each": each, "note": ""}
        slow = trainer == "compiled" or (trainer == "stacked" and self.chosen.compile_stacked)
        spent = time.monotonic() - self.began
        if spent + (self.chosen.compile_s if slow else ORDINARY) > self.chosen.budget_s:
            row["note"] = f"skipped: {spent:.0f} s of the budget of {self.chosen.budget_s:.0f} s were spent"
        else:
            row["note"] = self._measure(row, start)
            row["took_s"] = time.monotonic() - self.began - spent
            row["note"] = row["note"] or (f"{row['took_s']:.0f} s with compiling" if slow else "")
            gc.collect()
            torch.cuda.empty_cache()
        self.rows.append(row)
        print(", ".join(f"{key} {value}" for key, value in row.items() if key != "seconds"), flush=True)
        self.save()
        return row

    def _measure(self, row: dict[str, Any], start: Callable[[], AbstractContextManager[Step]]) -> str:
        samples, cuda = row["adapters"] * row["each"], self.chosen.device == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        try:
            batch: Batch = batch_of(self.chosen, samples)
            with start() as step:
                row["seconds"] = windows(partial(step, batch), self.chosen.device, self.chosen.window_s)
        except torch.cuda.OutOfMemoryError:
            return "out of memory"
        except Exception as error:  # a compiler can fail in any way; the other cells go on
            return f"{BROKEN} {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        row["samples_per_s"] = samples / median(row["seconds"])
        row["share"] = row["samples_per_s"] * self.facts["sample_tflop"] / self.facts["matrix_tflops"]
        row["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9 if cuda else None
        return ""

    def save(self) -> None:
        """Write what there is."""
        out, content = self.chosen.out, {"machine": self.facts, "settings": vars(self.chosen), "rows": self.rows}
        write_json(out.with_suffix(".json"), content)
        out.with_suffix(".md").write_text(self.text(), "utf-8")

    def text(self) -> str:
        """All cells in Markdown; ``x NAME`` is how many times the samples/s of that one-adapter trainer at the same batch."""
        usual = {(r["trainer"], r["each"]): r.get("samples_per_s") for r in self.rows if r["trainer"] != "stacked"}
        head = [
            "trainer",
            "adapters",
            "samples each",
            "steps/s",
            "samples/s (range)",
            "peak GB",
            "share of matrix rate",
        ]
        head += [f"x {name}" for name in self.chosen.alone] + ["note"]
        lines = []
        for row in self.rows:
            others = [usual.get((name, row["each"])) for name in self.chosen.alone]
            lines.append(markdown_row([*_figures(row), *(_times(row, o) for o in others), row["note"]]))
        return f"{in_words(self.facts, '; ')}\n\n{markdown_table(head, lines)}\n"


def _figures(row: dict[str, Any]) -> list[str]:
    first = [row["trainer"], str(row["adapters"]), str(row["each"])]
    if "seconds" not in row:
        return [*first, "", "", "", ""]
    samples, seconds = row["adapters"] * row["each"], row["seconds"]
    low, high = (f"{samples / end:.1f}" for end in (max(seconds), min(seconds)))
    peak = "" if row["peak_gb"] is None else f"{row['peak_gb']:.1f}"
    rates = [f"{1 / median(seconds):.2f}", f"{row['samples_per_s']:.1f} ({low} – {high})"]
    return [*first, *rates, peak, f"{row['share']:.1%}"]


def _times(row: dict[str, Any], other: float | None) -> str:
    return f"{row['samples_per_s'] / other:.2f}" if other and "samples_per_s" in row else ""


def measure(chosen: argparse.Namespace) -> Bench:
    """The stacked grid, then the one-adapter trainers, that which compiles last."""
    bench = Bench(chosen)
    unet = build(chosen)
    bench.facts = card(chosen.device, chosen.window_s)
    forward, both = operations(chosen, unet)
    bench.facts |= {"forward_tflop": forward / 1e12, "sample_tflop": both / 1e12}
    for each in chosen.each:
        for adapters in chosen.adapters:
            bench.cell("stacked", adapters, each, partial(stacked, chosen, unet, adapters))
    del unet
    for trainer in chosen.alone:
        made: list[Step] = []
        gc.collect()  # the trainer before this one: its memory is not this one's

        def start(trainer: str = trainer, made: list[Step] = made) -> AbstractContextManager[Step]:
            made[:] = made or [alone_by(trainer, chosen)]
            return nullcontext(made[0])

        for each in chosen.each:
            if bench.cell(trainer, 1, each, start)["note"].startswith(BROKEN):
                break
    return bench


def main() -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where to write, without a suffix")
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--each", type=int, nargs="+", default=[1, 2, 4], help="samples of each adapter in a step")
    parser.add_argument("--alone", nargs="*", choices=ALONE, default=list(ALONE), help="one-adapter trainers")
    parser.add_argument("--mode", default="default", help="mode of torch.compile")
    parser.add_argument("--compile-s", type=float, default=120, help="most seconds for compiling one cell")
    parser.add_argument("--budget-s", type=float, default=480)
    parser.add_argument("--window-s", type=float, default=0.6)
    for name in ("--channels-last", "--gradient-checkpointing", "--compile-stacked", "--smoke"):
        parser.add_argument(name, action="store_true")
    chosen = parser.parse_args()
    chosen.device = "cpu" if chosen.smoke else "cuda"
    if chosen.smoke:
        chosen.window_s, chosen.compile_s = 0.05, ORDINARY
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module="torch._dynamo")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    bench = measure(chosen)
    print("\n" + bench.text())


if __name__ == "__main__":
    main()
