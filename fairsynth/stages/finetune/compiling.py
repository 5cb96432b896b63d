"""When it pays to compile the network that adapters train on: seconds of compiling against steps to come. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fairsynth.config import FinetuneConfig, ModelsConfig, ResourcesConfig

# Stable Diffusion 1.5 at 512 pixels on one H100, 16 adapters with a sample each: samples a second as it is and compiled, and
# seconds of compiling (benchmarks/results/stacked_sd15_h100.json, stacked_sd15_h100_compiled.json). Slower cards save more;
# networks of other families are larger.
PLAIN, COMPILED, SECONDS, SIDE = 116.2, 146.0, 110.0, 512
# A compiled pass always has the same number of rows, some of which may be for nobody. With fewer than this share of them in
# use, the network as it is, with as many rows as there are adapters, is faster.
LEAST_FULL = PLAIN / COMPILED


@dataclass(frozen=True)
class Compiling:
    """How the network is compiled for a lot. ``rows``: of every pass, in all lots of a stage, so that there is one graph."""

    rows: int
    graphs: bool = False
    """Whether its passes are replayed as CUDA graphs, which saves the launches of their kernels."""


class Training(Protocol):
    """What counts of an adapter's training."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""

    @property
    def kinds(self) -> object | None:
        """What the adapter that all groups share has, and no other: it has no prior."""


def samples_of(jobs: Iterable[Training], config: FinetuneConfig) -> int:
    """Images that go through training, the prior's too."""
    return sum(job.steps * (config.batch_size + (0 if job.kinds else config.prior_size)) for job in jobs)


def saved(samples: float, side: int) -> float:
    """Seconds that compiling saves a lot of so many samples of images of this side; below 0: it takes longer than it saves."""
    seconds = samples * (side / SIDE) ** 2
    return seconds / PLAIN - seconds / COMPILED - SECONDS


def least_samples(side: int) -> float:
    """From how many samples of a lot on it pays."""
    return SECONDS / (1 / PLAIN - 1 / COMPILED) * (SIDE / side) ** 2


def compiling(
    lots: Sequence[Sequence[Training]], config: FinetuneConfig, models: ModelsConfig, resources: ResourcesConfig
) -> list[Compiling | None]:
    """How each lot's network is to be compiled on a GPU; None: not at all. It hangs on the settings and the work alone.

    With images of several shapes few adapters share a pass, so it is never compiled then unless the settings ask for it.
    """
    rows = max((len(lot) for lot in lots), default=1)
    how = Compiling(rows, resources.cuda_graphs)
    found: list[Compiling | None] = []
    for lot in lots:
        pays = models.shapes == "square" and saved(samples_of(lot, config), models.image_size) > 0
        asked = resources.compile == "always" or (resources.compile != "never" and pays)
        found.append(how if asked else None)
    return found
