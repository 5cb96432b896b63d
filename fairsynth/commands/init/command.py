"""The command init."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from fairsynth.commands.words import Tokens, check_out
from fairsynth.console import guarded, say
from fairsynth.errors import ConfigError

_WHAT = (
    "write a config for what? give a dataset's folder or a preset: fairsynth init DATA, or fairsynth init --preset demo"
)


def init(
    *tokens: Tokens,
    preset: str | None = None,
    to: str = "fairsynth.yaml",
    all: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write a commented config for a dataset or a preset.

    init [DATA] [--preset NAME] [--to FILE.yaml] [--all] [--force] [--section.key VALUE ...]

    DATA is a folder, s3://... or gs://...; its layout, groups and words are looked up, no image is opened.

    Parameters
    ----------
    preset
        Take the settings of this preset; with DATA all but those of its dataset.
    to
        The file; its name should end in .yaml.
    all
        Write every setting as one that counts, not those alone that people change.
    force
        Overwrite a file that is there.
    """
    return guarded(lambda: _init(tokens, preset, to, all, force))


def _init(tokens: Sequence[str], preset: str | None, to: str, every: bool, force: bool) -> int:
    from fairsynth.config.load import parse_overrides

    data, rest = (tokens[0], tokens[1:]) if tokens and not tokens[0].startswith("-") else (None, tokens)
    if data is None and preset is None:
        raise ConfigError(_WHAT)
    if data == "demo":  # as of inspect
        data, preset = None, preset or "demo"
    overrides = parse_overrides(rest)
    check_out(overrides)
    from fairsynth.commands.export.target import local_path
    from fairsynth.commands.init.file import check_free, write
    from fairsynth.commands.init.found import of_folder, of_preset

    target = local_path(to)
    check_free(target, force)
    found = of_folder(data, preset, overrides) if data else of_preset(str(preset), overrides)
    write(target, found, every, force)
    say("\n".join(found.told(target)))
    return 0
