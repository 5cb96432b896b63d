"""Options of a command line that its command does not have, though it has one that is spelled like them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def misspelt_option(app: Any, words: Sequence[str]) -> str:
    """What to tell of the first option that is spelled like one of the command's own; empty if none is.

    Commands take settings as further words, so that the parser lets any option pass. A setting, also one that
    is written without its section, is none of the command's options: whoever reads the settings tells of it.
    """
    command = words[0] if words and words[0] in app and not words[0].startswith("-") else None
    rest = list(words[1:] if command else words[:1])
    if not any(word.startswith("--") for word in rest):
        return ""
    options = _options(app[command]) if command else ["--help", "--version"]
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0]
        if not word.startswith("--") or name in options:
            continue
        near = None if "." in name or _is_setting(name[2:]) else _nearest(name[2:], options)
        if near is not None:
            return f"{command or 'fairsynth'} has no option {name} (did you mean {near}?); it has {', '.join(options)}"
        if "=" not in word and rest:
            rest.pop(0)  # a setting's value, whatever it looks like
    return ""


def _options(app: Any) -> list[str]:
    own = [name for argument in app.assemble_argument_collection() if argument.show for name in argument.names]
    return [*dict.fromkeys(name for name in (*own, "--help", "--version") if name.startswith("--"))]


def _nearest(name: str, options: Sequence[str]) -> str | None:
    """The option that is meant, unless a setting without a section is spelled more like it."""
    from fairsynth.config import RunConfig
    from fairsynth.config.suggest import nearest

    option = nearest(name, [*(option[2:] for option in options), *RunConfig.model_fields])
    return f"--{option}" if f"--{option}" in options else None


def _is_setting(name: str) -> bool:
    """Whether a key of the config, or its last part, has this name."""
    from fairsynth.config.load import known_keys

    return name.replace("-", "_") in {part for key in known_keys() for part in (key, key.rsplit(".", 1)[-1])}
