"""Train the demo's tiny CLIP, tiny Stable Diffusion, tiny flow transformer and digit judge from drawn images alone.

    python -m jobs.pretrain_demo --out build/demo-models            # everything, in order
    python -m jobs.pretrain_demo --out build/demo-models --only vae # one step

Each step goes on from the state in --out. About two and a half hours on two cores in all. The step ``flow`` takes the autoencoder
and the text tower from the package where --out has none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fairsynth.console import prepare_streams

STEPS = {"vae": 3600, "clip": 4700, "vision": 1950, "unet": 5500, "flow": 2400, "judge": 900}


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run the steps; returns the exit code."""
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the state and the finished models")
    parser.add_argument("--only", choices=list(STEPS), help="run this step alone")
    parser.add_argument("--steps", type=int, help="with --only: train this many steps")
    parser.add_argument("--corpus", type=int, default=60_000, help="number of drawn images")
    parser.add_argument("--seed", type=int, default=2511)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--install", action="store_true", help="copy the models (with --only: one) into the package")
    options = parser.parse_args(argv)

    import torch

    from fairsynth.demo.pretrain import steps
    from fairsynth.demo.pretrain.install import PARTS, finished, install
    from fairsynth.models.sources import demo_folder

    if options.install and options.only not in (None, *PARTS):
        parser.error(
            f"--install: {options.only} finishes no model of the package; --only takes {', '.join(PARTS)} here"
        )

    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, default in STEPS.items():
        if options.only in (None, name) and not (options.install and options.only is None and finished(options.out)):
            steps.run(name, options.out, options.steps or default, options.corpus, options.seed, options.threads)
    if options.install:
        install(options.out, demo_folder("clip").parent, options.seed, options.only)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
