"""A shell's completion script: static, so that no Python starts at a tab.

cyclopts writes such scripts from the types of a command's parameters. The settings are none: commands take them as
further words. So the script is written of a likeness of the command line, which has every setting as a parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, get_args, get_origin

from cyclopts import App, Parameter
from pydantic import BaseModel

from fairsynth.config import RunConfig, formats
from fairsynth.config.load import preset_names


def script(app: App, shell: Literal["bash", "zsh", "fish"]) -> str:
    """The script for the command ``fairsynth``."""
    return _likeness(app).generate_completion(prog_name="fairsynth", shell=shell)


def _likeness(app: App) -> App:
    """An app with the same commands and options, whose presets, layouts and settings have the words that they allow."""
    like = App(name="fairsynth", version=str(app.version))
    for name in (name for name in app if not name.startswith("-")):
        like.command(_command(app[name]), name=name)
    return like


def _command(app: App) -> Any:
    """A function that does nothing, with the command's own options and, where it takes them, the settings."""
    collected = app.assemble_argument_collection()
    further = [argument.field_info.name for argument in collected if _is_words(argument.field_info.kind)]
    takes_settings = "tokens" in further
    parameters = [inspect.Parameter("words", inspect.Parameter.VAR_POSITIONAL, annotation=Path) for _ in further]
    own = dict[str, Any]()
    for argument in collected:
        if not argument.show or _is_words(argument.field_info.kind):
            continue
        if argument.field_info.kind is inspect.Parameter.POSITIONAL_ONLY:
            parameters.insert(0, inspect.Parameter("word", inspect.Parameter.POSITIONAL_ONLY, annotation=argument.hint))
            continue
        own |= {name: _words_of(name, argument.hint) for name in argument.names}
    settings = dict(_settings(RunConfig)) if takes_settings else {}
    for number, (name, hint) in enumerate({**settings, **own}.items()):
        annotation: Any = Annotated[hint, Parameter(name=name, negative=())]  # type: ignore[valid-type]
        parameters.append(
            inspect.Parameter(f"p{number}", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )

    def command(*_args: Any, **_kwargs: Any) -> None: ...

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _is_words(kind: Any) -> bool:
    return kind is inspect.Parameter.VAR_POSITIONAL


def _words_of(name: str, hint: Any) -> Any:
    """An option's type; presets and layouts are words of a list."""
    lists = {"--preset": preset_names(), "--format": ["auto", "demo", *formats()]}
    return Literal[tuple(lists[name])] if name in lists and get_origin(hint) is not Literal else hint  # type: ignore[valid-type]


def _settings(model: type[BaseModel], prefix: str = "--") -> Iterator[tuple[str, Any]]:
    """Every setting as an option, with the words that its type allows."""
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _settings(annotation, f"{prefix}{name}.")
        elif annotation is bool:
            yield f"{prefix}{name}", Literal["true", "false"]
        else:
            words = _literals(annotation)
            yield f"{prefix}{name}", Optional[Literal[words]] if words else Optional[str]  # type: ignore[valid-type]  # noqa: UP045


def _literals(annotation: Any) -> tuple[str, ...]:
    """The words of a type that is one of some words, or one of some words or something else."""
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    if get_origin(annotation) in (dict, tuple, list):
        return ()
    return tuple(dict.fromkeys(word for part in get_args(annotation) for word in _literals(part)))
