"""What the plan says of compiling the network that adapters train on: what it takes, what it saves, from when on it pays."""

from __future__ import annotations

from fairsynth.commands.plan.adapters import AdapterPlan, lots
from fairsynth.config import RunConfig
from fairsynth.models.sources import is_demo
from fairsynth.stages.finetune.compiling import SECONDS, least_samples, saved

_STATED = "stated for Stable Diffusion 1.5 on one H100"


def compile_notes(config: RunConfig, adapters: AdapterPlan, workers: int) -> tuple[str, ...]:
    """A note for people; none where the settings leave nothing to decide, or where no GPU is meant.

    The clusters' adapters count, as many in each lot: the one that all groups share has a lot of its own, which seldom pays.
    """
    tuned = config.finetune
    decided = config.resources.compile != "auto" or config.models.shapes != "square"
    if decided or tuned.parameters == "full" or not adapters.adapters or is_demo(config.models.diffusion):
        return ()
    of_shared = config.shared.steps * config.shared.batch_size if adapters.shared else 0
    each = (adapters.samples.likely - of_shared) / lots(
        len(adapters.adapters), workers, config.resources.adapters_per_run
    )
    side = config.models.image_size
    gain = saved(each, side)
    if gain > 0:
        return (
            f"finetune compiles its network on GPUs: {SECONDS:,.0f} s on each worker, which save {gain + SECONDS:,.0f} s of "
            f"training ({_STATED}); --resources.compile never leaves it out",
        )
    return (
        f"finetune does not compile its network: that pays from {least_samples(side):,.0f} samples of a worker on, and here are "
        f"{each:,.0f} ({_STATED}); --resources.compile always does it all the same",
    )
