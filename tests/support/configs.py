"""Configs written to a file, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def message(path: str | None = None, preset: str | None = None, **overrides: object) -> str:
    """What load_config says about a wrong config; keys of ``overrides`` use ``__`` for the dot."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, preset, {key.replace("__", "."): value for key, value in overrides.items()})
    text = str(caught.value)
    assert "\n" not in text
    return text
