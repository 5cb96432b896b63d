"""Stacked LoRA at the size of Stable Diffusion 1.5 at 512 pixels, on one GPU: steps/s, samples/s, memory, share of its speed.

``python benchmarks/stacked_sd15.py --out RESULT`` writes RESULT.md and RESULT.json after every cell, and starts no cell
that ``--budget-s`` has no time for; ``--smoke`` tries the script on the CPU. Needs fairsynth's dependencies.
The UNet has SD 1.5's shape and random weights in bf16; batches are random and stay the same. Beside N adapters at once
there are one-adapter trainers at the same batch: peft under autocast as diffusers' scripts use it, peft all in bf16, plain
LoRA modules without hooks, and these compiled. All adapters are float32 but peft-bf16's; AdamW is torch's fused one.
The share of the card's speed is that of its own bf16 matrix product, by counted operations; recomputation does not count.
``--before-after`` instead measures what could make stacked training faster beside what it is without, in less than four
minutes: attention by cuDNN, channels last, CUDA graphs. The whole network compiled is the usual command with ``--adapters 16
--each 1 --alone --compile-stacked --channels-last``, for two minutes of compiling.
Other base models: ``stacked_families.py``.
"""

from __future__ import annotations

import argparse
import gc
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from common import REPOSITORY  # noqa: F401  (its checkout is the one that is measured)
from diffusers import logging

from benchmarks.stacked.bases import FULL, TINY, TINY_SIZE
from benchmarks.stacked.cells import BROKEN, Bench, Place
from benchmarks.stacked.trainers import ALONE, How, Step, alone_by, stacked
from fairsynth.console import prepare_streams


def measure(chosen: argparse.Namespace) -> Bench:
    """The stacked grid, then the one-adapter trainers, that which compiles last."""
    bench, base = Bench(vars(chosen)), (TINY if chosen.smoke else FULL)["sd15"]
    mode = "smoke" if chosen.smoke else chosen.mode
    how = How(base, chosen.device, chosen.channels_last, chosen.gradient_checkpointing, mode)
    place = Place("sd15", how, TINY_SIZE if chosen.smoke else 512)
    network, compiles = how.network(), chosen.compile_stacked
    bench.network(place, network, chosen.each)
    for each in chosen.each:
        for adapters in chosen.adapters:
            start = partial(stacked, how, network, adapters, compiles)
            bench.cell(place, "stacked", adapters, each, start, compiles)
    del network, start
    for trainer in chosen.alone:
        made: list[Step] = []
        gc.collect()  # the trainer before this one: its memory is not this one's

        def ready(trainer: str = trainer, made: list[Step] = made) -> AbstractContextManager[Step]:
            made[:] = made or [alone_by(trainer, how)]
            return nullcontext(made[0])

        for each in chosen.each:
            if bench.cell(place, trainer, 1, each, ready, trainer == "compiled")["note"].startswith(BROKEN):
                break
    return bench


def before_after(chosen: argparse.Namespace) -> Bench:
    """Stacked adapters as they are, then in other ways; what takes longest to compile comes last."""
    bench, base = Bench(vars(chosen)), (TINY if chosen.smoke else FULL)["sd15"]
    usual = How(base, chosen.device)
    network, size, many = usual.network(), TINY_SIZE if chosen.smoke else 512, 2 if chosen.smoke else 16
    bench.network(Place("sd15", usual, size), network, [1])
    for name, how, cells in (
        ("stacked", usual, [(many, 1), (many, 4), (1, 1)]),
        ("stacked, attention by cuDNN", replace(usual, cudnn=True), [(many, 1)]),
        ("stacked, channels last", replace(usual, channels_last=True), [(many, 1), (many, 4)]),
        ("stacked, CUDA graphs", replace(usual, compiling="graphs"), [(1, 1)]),
    ):
        network.to(memory_format=torch.channels_last if how.channels_last else torch.contiguous_format)
        compiles = how.compiling != "default"
        for adapters, each in cells:
            start = partial(stacked, how, network, adapters, compiles)
            bench.cell(Place("sd15", how, size), name, adapters, each, start, compiles)
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
    for name in ("--channels-last", "--gradient-checkpointing", "--compile-stacked", "--before-after", "--smoke"):
        parser.add_argument(name, action="store_true")
    chosen = parser.parse_args()
    chosen.device = "cpu" if chosen.smoke else "cuda"
    if chosen.before_after:
        chosen.alone, chosen.budget_s, chosen.compile_s = [], min(220.0, chosen.budget_s), min(110.0, chosen.compile_s)
    if chosen.smoke:
        chosen.window_s, chosen.compile_s = 0.05, 12
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module="torch._dynamo")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    print("\n" + (before_after if chosen.before_after else measure)(chosen).text())


if __name__ == "__main__":
    main()
