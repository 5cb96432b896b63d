"""The command plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from fairsynth.commands.words import Tokens
from fairsynth.console import guarded, say
from fairsynth.errors import ConfigError


def plan(
    *tokens: Tokens,
    preset: str | None = None,
    out: str | None = None,
    rates_from: str | None = None,
    price_per_hour: float | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Say what a run would do, how long it takes and what it costs. Nothing is written, no GPU is used.

    plan [CONFIG.yaml] [--preset NAME] [--out DIR] [--section.key VALUE ...]

    Give it what you would give to run: it refuses what run refuses.

    Parameters
    ----------
    preset
        demo, demo-flow, waterbirds, celeba or utkface.
    out
        Output folder; what is finished in it is not counted again.
    rates_from
        Output folder of an earlier run with the same models: its speed is taken.
    price_per_hour
        Price of an hour of one worker, in any currency.
    json
        Everything as JSON.
    """
    return guarded(lambda: show_plan(tokens, preset, out, rates_from, price_per_hour, json))


def show_plan(
    tokens: Sequence[str],
    preset: str | None,
    out: str | None,
    rates_from: str | None = None,
    price: float | None = None,
    as_json: bool = False,
) -> int:
    """Print the plan; returns the exit code. Raises what a run raises before its work."""
    from fairsynth.commands.words import config_of

    check_price(price)
    nothing = "nothing to plan: give a CONFIG.yaml or a preset, for example 'fairsynth plan --preset demo'"
    config, root = config_of(tokens, preset, out, nothing)

    from fairsynth.commands.plan.run import planned

    say(planned(config, root, rates_from, price, as_json))
    return 0


def check_price(price: float | None) -> None:
    """Raise ConfigError for a price that is none."""
    if price is not None and not 0 <= price < float("inf"):
        raise ConfigError(f"--price-per-hour is {price:g}; it must be 0 or more: what an hour of one worker costs")
