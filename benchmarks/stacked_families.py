"""Stacked LoRA at the sizes of today's base models on one GPU: samples/s beside peft one at a time, memory, share of its speed.

``python benchmarks/stacked_families.py --out RESULT [--minutes 3.25]`` measures the shapes of Stable Diffusion XL and of
Stable Diffusion 3.5 medium at 512 and 1024 pixels and of FLUX.2 [klein] 4B at 512; it writes RESULT.md and RESULT.json after
every cell and starts no cell that there is no time for. ``--smoke`` tries the script on the CPU with tiny networks. Needs
fairsynth's dependencies, and no download: weights are random, in bf16, rank 16 on the layers that fairsynth adapts by default.
Of each shape first as many adapters at once as fairsynth would train in the card's memory, with one sample each and with
four, then a single adapter by peft with the same samples. ``--gradient-checkpointing`` recomputes activations on both sides,
so that more adapters fit.
The share of the card's speed is that of its own bf16 matrix product, by counted operations; recomputation does not count.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import REPOSITORY  # noqa: F401  (its checkout is the one that is measured)
from diffusers import logging

from benchmarks.stacked.bases import FULL, TINY, TINY_SIZE
from benchmarks.stacked.cells import FULL_MEMORY, Bench, Place
from benchmarks.stacked.trainers import ALONE, How, Step, alone_by, stacked
from fairsynth.console import prepare_streams
from fairsynth.errors import Exhausted

# Sides in pixels unless --sizes says otherwise.
SIZES = {"sd15": [512], "sdxl": [512, 1024], "sd3": [512, 1024], "flux2": [512], "zimage": [512]}
# Seconds for a network to be made and looked at.
MAKING = 15.0


def at_once(bench: Bench, place: Place, chosen: argparse.Namespace, network: Any) -> None:
    """Many adapters at once; half as many as long as memory runs out."""
    fitting = bench.network(place, network, chosen.each)["at_once"]
    for each in chosen.each:
        adapters, note = min(chosen.adapters, fitting[each]), FULL_MEMORY
        while adapters and note == FULL_MEMORY:
            start = partial(stacked, place.how, network, adapters)
            note = bench.cell(place, "stacked", adapters, each, start)["note"]
            adapters //= 2


def one_at_a_time(bench: Bench, place: Place, chosen: argparse.Namespace, trainer: str, step: Step) -> None:
    """The same numbers of samples of a single adapter."""
    for each in chosen.each:
        bench.cell(place, trainer, 1, each, lambda: nullcontext(step))


def of_base(bench: Bench, places: Sequence[Place], chosen: argparse.Namespace) -> None:
    """All cells of a shape: adapters at once, then each trainer of one. Networks are made once for all sizes."""
    how = places[0].how
    network = how.network()
    for place in places:
        at_once(bench, place, chosen, network)
    del network
    for trainer in chosen.alone:
        gc.collect()  # the network before this one: its memory is not this one's
        step = alone_by(trainer, how)
        for place in places:
            one_at_a_time(bench, place, chosen, trainer, step)
        del step


def measure(chosen: argparse.Namespace) -> Bench:
    """Shape by shape, as long as there is time."""
    bench, bases = Bench(vars(chosen)), TINY if chosen.smoke else FULL
    for base in chosen.bases:
        how = How(bases[base], chosen.device, checkpointing=chosen.gradient_checkpointing)
        sizes = [TINY_SIZE] if chosen.smoke else chosen.sizes or SIZES[base]
        if bench.spent + MAKING > chosen.budget_s:
            bench.skip(f"{base}: {bench.spent:.0f} s of {chosen.budget_s:.0f} s were spent")
            continue
        try:
            of_base(bench, [Place(base, how, size) for size in sizes], chosen)
        except (torch.cuda.OutOfMemoryError, Exhausted):
            bench.skip(f"{base}: the card has not the memory for one sample of one adapter")
        gc.collect()
    return bench


def main() -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where to write, without a suffix")
    parser.add_argument("--bases", nargs="+", choices=list(FULL), default=["sdxl", "sd3", "flux2"], help="shapes")
    parser.add_argument("--sizes", type=int, nargs="+", help="sides of images in pixels")
    parser.add_argument("--adapters", type=int, default=16, help="at most so many at once")
    parser.add_argument("--each", type=int, nargs="+", default=[1, 4], help="samples of each adapter in a step")
    parser.add_argument("--alone", nargs="*", choices=ALONE[:-1], default=["peft"], help="one-adapter trainers")
    parser.add_argument("--minutes", type=float, default=3.25, help="after which nothing more is begun")
    parser.add_argument("--window-s", type=float, default=0.4)
    for name in ("--gradient-checkpointing", "--smoke"):
        parser.add_argument(name, action="store_true")
    chosen = parser.parse_args()
    chosen.device, chosen.budget_s, chosen.compile_s = "cpu" if chosen.smoke else "cuda", 60 * chosen.minutes, 0.0
    if chosen.smoke:
        chosen.window_s, chosen.adapters, chosen.each = 0.02, min(2, chosen.adapters), chosen.each[:1]
    logging.set_verbosity_error()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    print("\n" + measure(chosen).text())


if __name__ == "__main__":
    main()
