"""What commands of the command line share: settings as words, and the config that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from fairsynth.errors import ConfigError
from fairsynth.store.address import Address, is_bucket
from fairsynth.store.place import output_root

if TYPE_CHECKING:
    from fairsynth.config import RunConfig


def _positive(_type: object, value: float | None) -> None:
    if value is not None and not 0 < value < float("inf"):
        raise ValueError(f"must be a number above 0, for example 2.5; it is {value:g}")


Hours = Annotated[float, Parameter(validator=_positive)]
Tokens = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]


def check_out(overrides: Mapping[str, Any]) -> None:
    """Of a command that writes no output, but takes a run's settings: raise ConfigError for an output that no run could have."""
    text = str(overrides.get("out", ""))
    if is_bucket(text):
        Address.parse(text)


def config_of(tokens: Sequence[str], preset: str | None, out: str | None, nothing: str) -> tuple[RunConfig, Path]:
    """The config of a command line, and its output folder. Raises ConfigError(nothing) for an empty one."""
    from fairsynth.config.load import load_config, parse_overrides

    path, rest = (tokens[0], tokens[1:]) if tokens and not tokens[0].startswith("-") else (None, tokens)
    if path is None and preset is None and not rest:
        raise ConfigError(nothing)
    config = load_config(path, preset, parse_overrides(rest) | ({"out": out} if out else {}))
    return config, output_root(config.out)
