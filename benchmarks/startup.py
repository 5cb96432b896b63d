"""What the start of each kind of worker consists of: processor seconds that its imports take, part by part.

``python benchmarks/startup.py [--repeats 5] [--json FILE]``. Each part is imported by a fresh process on top of those
before it; a part's seconds are what it adds, median over repeats. Files are in the system's cache from the first, unmeasured round.
Loading models and Ray's own processes are not in it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median

from common import machine, write_json

# Of each kind of worker, what it imports, in this order.
WORKERS = {
    "embed": {
        "Ray Data": "import ray.data",
        "torch": "import torch",
        "transformers": "import fairsynth.models.encoder",
        "diffusers": "import fairsynth.models.diffusion",
        "the rest": "import fairsynth.stages.embed.embedding",
    },
    "finetune": {
        "Ray Train": "import ray.train",
        "torch": "import torch",
        "transformers": "from transformers import CLIPTextModel",
        "diffusers": "import fairsynth.models.diffusion; from diffusers import StableDiffusionPipeline",
        "the rest": "import fairsynth.stages.finetune.stacked_training, fairsynth.stages.finetune.latents",
    },
    "synthesize": {
        "Ray Data": "import ray.data",
        "torch": "import torch",
        "transformers": "import fairsynth.models.encoder",
        "diffusers": "import fairsynth.models.image_maker; from diffusers import StableDiffusionPipeline",
        "the rest": "import fairsynth.stages.synthesize.generate",
    },
    "tune": {
        "Ray Tune": "import ray.tune",
        "torch": "import torch",
        "transformers": "from transformers import ResNetModel",
        "the rest": "import fairsynth.stages.tune.search",
    },
    "evaluate": {
        "Ray Data": "import ray.data",
        "torch": "import torch",
        "transformers": "from transformers import ResNetModel",
        "the rest": "import fairsynth.stages.evaluate.final_training",
    },
}
_TOLD = "; import resource; used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)"


def seconds(parts: list[str]) -> float:
    """Processor seconds of a process that imports these."""
    code = "; ".join(parts or ["pass"]) + _TOLD
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def measured(repeats: int) -> dict[str, dict[str, float]]:
    """For each kind of worker the seconds that each part adds, Python itself first."""
    found = {}
    for worker, parts in WORKERS.items():
        lines = [*parts.values()]
        steps = [[seconds(lines[:count]) for _ in range(repeats + 1)][1:] for count in range(len(lines) + 1)]
        whole = [median(step) for step in steps]
        added = [whole[0], *(after - before for before, after in pairwise(whole))]
        found[worker] = {name: round(one, 2) for name, one in zip(["Python", *parts], added, strict=True)}
        print(worker, found[worker], flush=True)
    return found


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    workers = measured(args.repeats)
    if args.json:
        write_json(args.json, machine() | {"processor_seconds": workers})


if __name__ == "__main__":
    main()
