"""The commands that run the pipeline, whole or one stage of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from fairsynth.commands.plan.command import check_price, show_plan
from fairsynth.commands.words import Hours, Tokens, config_of
from fairsynth.console import guarded, say

_HELP = {
    "ingest": "Read the dataset, check every image, write the manifest.",
    "embed": "Turn images into CLIP vectors, and training images into latents.",
    "cluster": "Find clusters inside each group.",
    "finetune": "Train an adapter per cluster.",
    "synthesize": "Generate images for each group, and keep what shows it.",
    "audit": "Measure what was kept: what it shows, how real it is, whether it copies.",
    "tune": "Search each method's settings by validation worst-group accuracy.",
    "evaluate": "Train with the best settings, predict the test split.",
    "report": "Write the report, and lay out what a run leaves.",
}
STAGES = tuple(_HELP)


def run(
    *tokens: Tokens,
    preset: str | None = None,
    out: str | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    confirm_above: float = 5.0,
    yes: Annotated[bool, Parameter(negative=())] = False,
    price_per_hour: float | None = None,
    max_worker_hours: Hours | None = None,
) -> int:
    """Run the whole pipeline; the same command resumes.

    run [CONFIG.yaml] [--preset NAME] [--out DIR] [--section.key VALUE ...]

    Parameters
    ----------
    preset
        demo, demo-flow, waterbirds, celeba or utkface.
    out
        Output folder, on a cluster one that all nodes share; or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX.
    dry_run
        Show the plan and end: the same as 'fairsynth plan'.
    confirm_above
        At a terminal, show the plan and ask before a run that is estimated to take more minutes.
    yes
        Never ask.
    price_per_hour
        Price of an hour of one worker, for the plan.
    max_worker_hours
        Stop, with exit code 4, when the workers have worked so many hours together; the same command goes on.
    """
    if dry_run:
        return guarded(lambda: show_plan(tokens, preset, out, price=price_per_hour))
    asked = _Asked(confirm_above, price_per_hour) if not yes else None
    return guarded(lambda: _run(tokens, preset, out, None, max_worker_hours, asked))


def stage_command(stage: str) -> Callable[..., int]:
    """The command of one stage."""

    def command(
        *tokens: Tokens, preset: str | None = None, out: str | None = None, max_worker_hours: Hours | None = None
    ) -> int:
        return guarded(lambda: _run(tokens, preset, out, stage, max_worker_hours))

    command.__doc__ = _HELP[stage]
    return command


class _Asked(NamedTuple):
    """When a person is asked before a run: above so many minutes; and the price that the plan goes by."""

    above: float
    price: float | None


def _run(
    tokens: Sequence[str],
    preset: str | None,
    out: str | None,
    only: str | None,
    max_worker_hours: float | None,
    asked: _Asked | None = None,
) -> int:
    from fairsynth.commands.run.running import carry_out, checked

    nothing = "nothing to run: give a CONFIG.yaml or a preset, for example 'fairsynth run --preset demo'"
    check_price(asked.price if asked else None)
    config, _ = config_of(tokens, preset, out, nothing)
    run = checked(config)
    if asked is not None:
        from fairsynth.commands.plan.ask import agreed

        if not agreed(run.config, run.root, run.metadata, *asked):
            say("nothing was done")
            return 0
    carry_out(run, only, say, max_worker_hours)
    return 0
