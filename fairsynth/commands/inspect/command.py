"""The command inspect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from fairsynth.commands.words import Tokens, check_out
from fairsynth.console import guarded, say
from fairsynth.errors import ConfigError


def inspect(
    *tokens: Tokens,
    format: str | None = None,
    preset: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Look at a dataset before anything is spent on it.

    inspect DATA [--format F] [--json] [--section.key VALUE ...]

    DATA is a folder, s3://..., gs://..., demo, or a CONFIG.yaml that names one. Nothing is written. Exit code 3: a run would refuse the dataset.

    Parameters
    ----------
    format
        waterbirds, celeba, utkface, folder, classfolder, parquet or webdataset; recognised if not given.
    preset
        Take limits, columns and group sizes from this preset.
    json
        Everything as JSON, file names uncut.
    """
    return guarded(lambda: _inspect(tokens, format, preset, json))


def _inspect(tokens: Sequence[str], layout: str | None, preset: str | None, as_json: bool) -> int:
    import json

    from fairsynth.config.load import load_config, parse_overrides

    if not tokens or tokens[0].startswith("-"):
        raise ConfigError("inspect what? give the dataset's folder: fairsynth inspect DATA")
    overrides = parse_overrides(tokens[1:])
    check_out(overrides)
    path = tokens[0] if tokens[0].lower().endswith((".yaml", ".yml")) else None
    if tokens[0] == "demo" and layout is None:
        overrides["data.format"] = "demo"
    elif path is not None:
        overrides |= {"data.format": layout} if layout else {}
    else:
        overrides |= {"data.root": tokens[0]}
        overrides["data.format"] = layout or overrides.get("data.format", "auto")
    config = load_config(path, preset, overrides)

    from fairsynth.commands.inspect.run import inspect_dataset
    from fairsynth.commands.inspect.text import lines

    findings = inspect_dataset(config)
    if as_json:
        say(json.dumps(findings, indent=1, allow_nan=False))
    else:
        say("\n".join(lines(findings)))
    return 3 if findings["problems"] else 0
