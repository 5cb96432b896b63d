"""Images of Stable Diffusion 1.5's size on one GPU: images/s, memory, and the share of the card's matrix rate.

``python benchmarks/generate_sd15.py --out RESULT`` writes RESULT.md and RESULT.json after every cell, and starts no cell
that ``--budget-s`` has no time for; ``--smoke`` tries the script on the CPU. Needs torch, diffusers and this checkout; peft
for the plain loop. UNet and VAE have SD 1.5's shape and random weights in bf16: speed does not depend on weights. 512 px,
20 steps of DPM-Solver++ with guidance, decoded to pixels on the CPU. Cells: fairsynth's denoising loop with merged weights,
eager and compiled with channels last, and guidance on half of the steps; several stacked adapters in one batch; diffusers'
own pipeline with a LoRA by peft, batches of 16. The share is of the card's own bf16 matrix product, by counted operations.
``--before-after`` instead measures what could make it faster beside what it is without, in less than four minutes: blocks
compiled in place of the whole network, with CUDA graphs for a small batch, a few-step sampler's four steps without guidance, and
files of PNG written while the GPU goes on, pixels rounded there, beside pixels that the host waits for and rounds.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import card, in_words, markdown_row, markdown_table, write_json
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel, logging
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.files import with_files
from benchmarks.stacked.bases import SD15, TINY_SD15
from benchmarks.stacked.trainers import RANK, cudnn_first
from fairsynth.console import prepare_streams
from fairsynth.models.compiled import blocks_of
from fairsynth.models.families.sd import StableDiffusion
from fairsynth.models.image_maker import on_device
from fairsynth.models.sampling import Predict, Wanted, denoise, network_of, to_pixels
from fairsynth.models.schedule import Sampling
from fairsynth.models.stacked import StackedAdapters, shell

VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
TINY_VAE = VAE | {
    "block_out_channels": (32, 64), "layers_per_block": 1, "sample_size": 16,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
GUIDANCE, TOKENS = 7.5, 77
TARGETS = StableDiffusion.targets


def build(chosen: argparse.Namespace) -> StableDiffusionPipeline:
    """A pipeline without text encoder: prompts come as embeddings, as fairsynth keeps them."""
    with torch.device(chosen.device):
        unet = UNet2DConditionModel(**(TINY_SD15 if chosen.smoke else SD15))
        vae = AutoencoderKL(**(TINY_VAE if chosen.smoke else VAE))
    pipeline = StableDiffusionPipeline(
        vae=vae.to(torch.bfloat16),
        unet=unet.to(torch.bfloat16).requires_grad_(False),
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def wanted(pipeline: Any, batch: int) -> Wanted:
    """Random prompts."""
    shape = (batch, TOKENS, pipeline.unet.config.cross_attention_dim)
    texts = [torch.randn(shape, device=pipeline.device, dtype=torch.bfloat16) for _ in "np"]
    return Wanted({"text": texts[0]}, {"text": texts[1]}, [GUIDANCE] * batch, list(range(batch)))


def merged(chosen: argparse.Namespace, pipeline: Any, predict: Predict, until: float, batch: int) -> Callable[[], Any]:
    """One batch of one adapter: merged weights are weights like any others."""
    images, sampling = wanted(pipeline, batch), Sampling(chosen.steps, "dpm++", until)
    return lambda: to_pixels(pipeline, denoise(pipeline, images, chosen.size, sampling, predict))


def stacked(chosen: argparse.Namespace, pipeline: Any, adapters: int, batch: int) -> Callable[[], Any]:
    """One batch of several adapters."""
    network = shell(pipeline.unet)
    stack = StackedAdapters(network, RANK, RANK, TARGETS)
    weights = torch.randn(adapters, stack.size, device=pipeline.device) * 1e-3
    images, sampling = wanted(pipeline, batch), Sampling(chosen.steps)

    predict = network_of(pipeline, network)

    def call() -> Any:
        with stack.using(weights), torch.no_grad():
            return to_pixels(pipeline, denoise(pipeline, images, chosen.size, sampling, predict, adapters))

    return call


def by_diffusers(chosen: argparse.Namespace, pipeline: Any, batch: int) -> Callable[[], Any]:
    """diffusers' pipeline with a LoRA that is not merged."""
    from peft import LoraConfig

    if not getattr(pipeline.unet, "peft_config", None):
        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS), init_lora_weights="gaussian")
        pipeline.unet.add_adapter(config)
    images = wanted(pipeline, batch)
    return lambda: (
        pipeline(
            prompt_embeds=images.positive["text"],
            negative_prompt_embeds=images.negative["text"],
            num_inference_steps=chosen.steps,
            guidance_scale=GUIDANCE,
            height=chosen.size,
            width=chosen.size,
            generator=[torch.Generator().manual_seed(seed) for seed in images.seeds],
        ).images
    )


def before_after(
    chosen: argparse.Namespace, pipeline: Any
) -> list[tuple[str, int, Callable[[], Callable[[], Any]], bool]]:
    """Cells as of ``cells``; what is compiled as a whole comes last, for it takes longest."""
    few, batch = argparse.Namespace(**vars(chosen) | {"steps": 4}), max(chosen.batch)
    kept: dict[tuple[str, bool], Predict] = {}

    def predict(how: str, graphs: bool = False) -> Predict:
        if (how, graphs) not in kept:
            kept.clear()
            for block in blocks_of(pipeline.unet):
                block._compiled_call_impl = None
            torch._dynamo.reset()
            kept[how, graphs] = on_device(pipeline, how, graphs)
        return kept[how, graphs]

    def of(how: str, n: int, graphs: bool = False, until: float = 1.0, steps: argparse.Namespace = chosen) -> Any:
        return lambda: merged(steps, pipeline, predict(how, graphs), until, n)

    def by_cudnn(start: Any) -> Any:
        def call(usual: Any) -> Any:
            with cudnn_first():
                return usual()

        return lambda: partial(call, start())

    def with_files_of(beside: bool) -> Any:
        images, sampling = wanted(pipeline, batch), Sampling(chosen.steps)
        return lambda: with_files(
            pipeline, lambda: denoise(pipeline, images, chosen.size, sampling, predict("auto")), batch, beside
        )

    # Guidance of no step is guidance 1.
    return [
        ("never compiled", batch, of("never", batch), False),
        ("never compiled, attention by cuDNN", batch, by_cudnn(of("never", batch)), False),
        ("never compiled", 1, of("never", 1), False),
        ("blocks compiled", batch, of("blocks", batch), True),
        ("blocks compiled, CUDA graphs", 1, of("blocks", 1, True), True),
        ("compiled", batch, of("auto", batch), True),
        ("compiled, files after the pixels", batch, with_files_of(False), False),
        ("compiled, files beside the next batch", batch, with_files_of(True), False),
        ("compiled, four steps without guidance", batch, of("auto", batch, until=0.0, steps=few), False),
    ]


def operations(chosen: argparse.Namespace, pipeline: Any) -> float:
    """Counted operations of an image, in 10^12."""
    call = merged(chosen, pipeline, network_of(pipeline), 1.0, 1)
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e12


def measured(call: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call, after one that warms up; a call ends with its pixels on the CPU."""
    call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds


def cells(chosen: argparse.Namespace, pipeline: Any) -> list[tuple[str, int, Callable[[], Callable[[], Any]], bool]]:
    """Name, batch, how to make its call, and whether it compiles; diffusers last, for its adapter stays in the UNet."""
    eager, found = network_of(pipeline), []
    for batch in chosen.batch:
        found.append(("merged, eager", batch, partial(merged, chosen, pipeline, eager, 1.0, batch), False))
    for adapters in chosen.adapters:
        batch = max(chosen.batch)
        name = f"{adapters} stacked adapters, eager"
        found.append((name, batch, partial(stacked, chosen, pipeline, adapters, batch), False))
    kept: list[Predict] = []

    def compiled(until: float, batch: int) -> Callable[[], Any]:
        kept[:] = kept or [on_device(pipeline)]
        return merged(chosen, pipeline, kept[0], until, batch)

    for batch in chosen.batch:
        found.append(("merged, compiled", batch, partial(compiled, 1.0, batch), True))
    found.append(
        ("merged, compiled, guidance on half", max(chosen.batch), partial(compiled, 0.5, max(chosen.batch)), True)
    )
    found.append(("diffusers pipeline, LoRA by peft", 16, partial(by_diffusers, chosen, pipeline, 16), False))
    return found


def text(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """All cells in Markdown."""
    head = ["how", "batch", "images/s", "range", "peak GB", "share of matrix rate", "note"]
    lines = (markdown_row(row.get(key, "") for key in head) for row in rows)
    return f"{in_words(facts, '; ')}\n\n{markdown_table(head, lines)}\n"


def cell(chosen: argparse.Namespace, facts: dict[str, Any], name: str, batch: int, start: Any) -> dict[str, Any]:
    """Measure one; if it cannot be, the note says why."""
    row: dict[str, Any] = {"how": name, "batch": batch, "note": ""}
    try:
        if chosen.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = measured(start(), chosen.repeats)
        rate = batch / median(seconds)
        rate *= 3 if "files" in name else 1
        half = "half" in name or "four steps" in name
        low, high = (rate * median(seconds) / end for end in (max(seconds), min(seconds)))
        row |= {"images/s": round(rate, 2), "range": f"{low:.2f} - {high:.2f}"}
        row["share of matrix rate"] = "" if half else f"{rate * facts['image_tflop'] / facts['matrix_tflops']:.1%}"
        row["peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 1) if chosen.device == "cuda" else ""
    except Exception as error:  # memory runs out, a compiler fails: the other cells go on
        row["note"] = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return row


def main() -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where to write, without a suffix")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--adapters", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile-s", type=float, default=120, help="most seconds for a cell that compiles")
    parser.add_argument("--budget-s", type=float, default=480)
    for flag in ("--before-after", "--smoke"):
        parser.add_argument(flag, action="store_true")
    chosen = parser.parse_args()
    if chosen.before_after:
        chosen.batch, chosen.repeats = [16], 2
        chosen.budget_s, chosen.compile_s = min(220.0, chosen.budget_s), min(60.0, chosen.compile_s)
    chosen.device, chosen.size = ("cpu", 16) if chosen.smoke else ("cuda", 512)
    if chosen.smoke:
        chosen.batch, chosen.adapters, chosen.steps = [2, 4], [2], 2
    chosen.window_s = 0.2
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module="torch._dynamo")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    began, pipeline, rows = time.monotonic(), build(chosen), list[dict[str, Any]]()
    facts = card(chosen.device, chosen.window_s) | {"image_tflop": operations(chosen, pipeline)}
    for name, batch, start, compiles in (before_after if chosen.before_after else cells)(chosen, pipeline):
        spent = time.monotonic() - began
        if spent + (chosen.compile_s if compiles and not chosen.smoke else 15) > chosen.budget_s:
            rows.append({"how": name, "batch": batch, "note": f"skipped: {spent:.0f} s of the budget were spent"})
        else:
            rows.append(cell(chosen, facts, name, batch, start))
        print(rows[-1], flush=True)
        content = {"machine": facts, "settings": vars(chosen), "rows": rows}
        write_json(chosen.out.with_suffix(".json"), content)
        chosen.out.with_suffix(".md").write_text(text(facts, rows), "utf-8")
    print("\n" + text(facts, rows))
    sys.exit(0)


if __name__ == "__main__":
    main()
