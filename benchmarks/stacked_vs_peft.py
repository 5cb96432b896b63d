"""Adapters of small networks on a CPU: all at once with fairsynth, beside one after another with peft. Samples per second.

``python benchmarks/stacked_vs_peft.py [--bases demo] [--batches 1 4] [--repeats 5] [--json FILE]``; run it while nothing else
runs. ``--bases``: the demo's UNet, or networks of other base models' classes as small as it, with random weights, latents and
texts, adapted where fairsynth does by default. Both sides train the same adapters in one process: the same initial weights, draws, losses and AdamW, no prior and no
validation; that the weights come out alike is checked. Both clocks count all from the loaded base model to the trained
weights; the copies of the network that keep peft's adapters apart are made before its clock starts. peft trains with AdamW
as torch does it by default, and again with torch's fused AdamW, which is faster here and which fairsynth uses too.
``--processor-time`` with one thread is for a machine on which other things run: seconds in which the process ran.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import in_words, machine, markdown_row, markdown_table, spread, write_json
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from benchmarks.stacked.bases import TINY
from benchmarks.stacked.lots import DEMO, World, make_world
from fairsynth.config import FinetuneConfig
from fairsynth.config.load import load_config
from fairsynth.console import prepare_streams
from fairsynth.models.diffusion import Denoiser
from fairsynth.models.families.conditions import Conditions, mapped
from fairsynth.models.stacked import StackedAdapters
from fairsynth.stages.finetune.denoising import Sampler
from fairsynth.stages.finetune.jobs import AdapterJob
from fairsynth.stages.finetune.stacked_training import StackedTrainer

NAME = "alone"
PEERS: dict[str, dict[str, bool]] = {"peft": {}, "peft, fused AdamW": {"fused": True}}
OURS = "fairsynth"
Clock = Callable[[], float]


class Alone(NamedTuple):
    """One adapter as peft has it, ready to be trained."""

    network: Any
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.AdamW
    sampler: Sampler
    text: Conditions


def settings(world: World, batch: int) -> FinetuneConfig:
    """The demo preset's rank and learning rate; the plain loss, no prior, no validation."""
    changed = {"batch_size": batch, "prior_weight": 0.0, "validation_share": 0.0, "snr_ceiling": None}
    changed["target_modules"] = world.targets
    return load_config(preset="demo").finetune.model_copy(update=changed)


def prepare(
    world: World,
    network: Any,
    config: FinetuneConfig,
    job: AdapterJob,
    initial: dict[str, Any],
    peer: str,
) -> Alone:
    """Give a copy of the network a fresh adapter."""
    network.add_adapter(
        LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.target_modules)), NAME
    )
    set_peft_model_state_dict(network, initial, adapter_name=NAME)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=job.learning_rate, weight_decay=config.weight_decay, **PEERS[peer])
    sampler = Sampler(world.latents[job.name], job.seed, config, world.denoiser.noise)
    return Alone(network, parameters, optimizer, sampler, world.texts[job.prompt])


def loop(alone: Alone, denoiser: Denoiser, steps: int, max_norm: float) -> None:
    """The training loop of one adapter."""
    noise = denoiser.noise
    for step in range(steps):
        draw = alone.sampler(step)
        noisy = noise.noisy(draw.clean, draw.noise, draw.levels)
        told = mapped(lambda value: value.expand(len(noisy), *value.shape), alone.text) | draw.facts  # noqa: B023
        predicted = denoiser(noisy, noise.times(draw.levels), told, alone.network)
        errors = (predicted - noise.target(draw.clean, draw.noise, draw.levels)).square().mean((1, 2, 3))
        loss = (errors * noise.weights(draw.levels, None).to(errors)).mean()
        alone.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(alone.parameters, max_norm)
        alone.optimizer.step()


def by_peft(world: World, config: FinetuneConfig, clock: Clock, peer: str) -> tuple[float, dict[str, Any]]:
    """Seconds of one adapter after another, and the trained weights of each."""
    stack = StackedAdapters(world.denoiser.network, config.rank, config.alpha, config.target_modules)
    initial = [stack.state(stack.initial(job.seed)) for job in world.jobs]
    stack.remove()
    copies, found = [copy.deepcopy(world.denoiser.network) for _ in world.jobs], {}
    began = clock()
    for network, job, state in zip(copies, world.jobs, initial, strict=True):
        alone = prepare(world, network, config, job, state, peer)
        loop(alone, world.denoiser, job.steps, config.max_grad_norm)
        found[job.name] = get_peft_model_state_dict(network, adapter_name=NAME)
    return clock() - began, found


def by_fairsynth(world: World, config: FinetuneConfig, clock: Clock) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole training call, and the trained weights of each adapter."""
    found: dict[str, Any] = {}
    trainer = StackedTrainer(world.denoiser, config, world.texts, lambda job: world.latents[job.name], len(world.jobs))
    began = clock()
    trainer.train(world.jobs, lambda result: found.__setitem__(result.job.name, result.weights))
    return clock() - began, found


def distance(world: World, config: FinetuneConfig, ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Largest difference between two trainings of an adapter, relative to how far peft's has moved from its start."""
    stack = StackedAdapters(world.denoiser.network, config.rank, config.alpha, config.target_modules)
    stack.remove()
    found = []
    for job in world.jobs:
        start, one, other = stack.initial(job.seed), stack.row(ours[job.name]), stack.row(theirs[job.name])
        found.append(float((one - other).norm() / (other - start).norm()))
    return max(found)


def compare(base: str, world: World, batch: int, repeats: int, clock: Clock) -> dict[str, Any]:
    """All in turns: samples per second of every repeat, and how far apart the weights are."""
    config, weights = settings(world, batch), dict[str, dict[str, Any]]()
    short = world._replace(jobs=[replace(job, steps=2) for job in world.jobs])
    sides = {peer: partial(by_peft, config=config, clock=clock, peer=peer) for peer in PEERS} | {
        OURS: partial(by_fairsynth, config=config, clock=clock)
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side(short)
    for index in range(repeats):
        for name, side in sides.items():
            seconds, weights[name] = side(world)
            rates[name].append(batch * sum(job.steps for job in world.jobs) / seconds)
        print(
            f"{base}, batch {batch}, round {index}: "
            + ", ".join(f"{k} {v[-1]:.1f} samples/s" for k, v in rates.items())
        )
    ratios = {peer: [ours / theirs for ours, theirs in zip(rates[OURS], rates[peer], strict=True)] for peer in PEERS}
    gap = max(distance(world, config, weights[OURS], weights[peer]) for peer in PEERS)
    facts = {"base": base, "parameters": sum(p.numel() for p in world.denoiser.network.parameters()), "batch": batch}
    return facts | {"rates": rates, "ratios": ratios, "apart": gap}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The comparison in Markdown."""
    head = [
        "base",
        "parameters, M",
        "batch of each",
        *(f"{name}, samples/s" for name in (*PEERS, OURS)),
        *(f"x {peer}" for peer in PEERS),
    ]
    lines = []
    for row in rows:
        cells = [*map(spread, row["rates"].values()), *(spread(values, 2) for values in row["ratios"].values())]
        first = [row["base"], f"{row['parameters'] / 1e6:.1f}", row["batch"]]
        lines.append(markdown_row([*first, *cells, f"{row['apart']:.1e}"]))
    return markdown_table([*head, "weights apart"], lines)


def main() -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bases", nargs="+", choices=[DEMO, *TINY], default=[DEMO])
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor-time", action="store_true", help="count it in place of seconds: one thread alone")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if chosen.processor_time and chosen.threads > 1:
        parser.error("--processor-time counts what all threads wait for each other, too: use it with --threads 1")
    torch.set_num_threads(chosen.threads)
    clock = time.process_time if chosen.processor_time else time.perf_counter
    names = ("adapters", "steps", "repeats", "threads", "processor_time")
    facts = machine() | {"load before": os.getloadavg()[0]} | {name: getattr(chosen, name) for name in names}
    rows: list[dict[str, Any]] = []
    for base in chosen.bases:
        world = make_world(base, chosen.adapters, chosen.steps)
        for batch in chosen.batches:
            rows.append(compare(base, world, batch, chosen.repeats, clock))
            write_json(chosen.json, {"machine": facts, "rows": rows})
    print("\n" + table(rows) + "\n\n" + in_words(facts))


if __name__ == "__main__":
    main()
