"""A config as a YAML file with comments: what each setting means, and those that are left as they are as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from fairsynth.commands.init.found import FoundConfig
from fairsynth.config import RunConfig
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable

# What people change; every other setting that has its default is a comment.
USUAL = {
    *("out", "data.format", "data.root", "models.diffusion", "models.clip"),
    *("finetune.prompt", "synthesize.prompt", "synthesize.per_group", "tune.methods", "evaluate.seeds"),
}
_WIDTH = 116
_WIDE = 10**9


def check_free(target: Path, force: bool) -> None:
    """Raise ConfigError if the file is there, unless it may be overwritten, or if its folder is not there."""
    if target.exists() and not (force and target.is_file()):
        raise ConfigError(f"{target} is there already; give another file with --to, or overwrite it with --force")
    if not target.absolute().parent.is_dir():
        raise ConfigError(
            f"the folder {target.absolute().parent} does not exist; give a file in one that does with --to"
        )


def write(target: Path, found: FoundConfig, every: bool, force: bool) -> None:
    """Write the file. Raises ConfigError if it cannot be written, or is there by now."""
    text = "\n".join(lines(found, every)) + "\n"
    try:
        with open(target, "w" if force else "x", encoding="utf-8") as handle:
            handle.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}; give another file with --to") from error


def lines(found: FoundConfig, every: bool = False) -> Iterator[str]:
    """The lines of the file. ``every``: no setting is a comment."""
    yield from _comment(found.head, "")
    if not every:
        yield "# A setting behind # has its default: take the # away to change it."
    yield ""
    values = found.config.model_dump(mode="json")
    yield from _section(RunConfig, values, RunConfig().model_dump(mode="json"), "", found.notes, every)


def _section(
    model: type[BaseModel],
    values: Mapping[str, Any],
    usual: Mapping[str, Any],
    prefix: str,
    notes: Mapping[str, Sequence[str]],
    every: bool,
) -> Iterator[str]:
    """The settings of a section: first those that count, then those left as they are, then the sections inside it."""
    indent = "  " * prefix.count(".")
    plain = {name: field for name, field in model.model_fields.items() if not _is_section(field.annotation)}
    counting = [n for n in plain if every or {f"{prefix}{n}"} & {*USUAL, *notes} or values[n] != usual[n]]
    for name in sorted(plain, key=lambda name: name not in counting):
        yield from _comment([_meaning(plain[name]), *notes.get(f"{prefix}{name}", ())], indent)
        yield from _setting(name, values[name], indent, "" if name in counting else "#")
    for name in [name for name in model.model_fields if name not in plain]:
        inner: Any = model.model_fields[name].annotation
        yield ""
        yield f"{indent}{name}:"
        yield from _comment([" ".join((inner.__doc__ or "").split())], f"{indent}  ")
        yield from _section(inner, values[name], usual[name], f"{prefix}{name}.", notes, every)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _meaning(field: Any) -> str:
    """A field's description, and the words that are allowed where it does not name them itself."""
    text = field.description or ""
    words = [str(word) for word in _choices(field.annotation) if str(word) not in text]
    return f"{text} One of: {', '.join(map(str, _choices(field.annotation)))}.".strip() if words else text


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(word for part in get_args(annotation) for word in _choices(part))


def _comment(texts: Sequence[str], indent: str) -> Iterator[str]:
    for text in texts:
        shown = printable(text)
        blanks = shown[: len(shown) - len(shown.lstrip())]
        yield from textwrap.wrap(
            shown.lstrip(), _WIDTH, initial_indent=f"{indent}# {blanks}", subsequent_indent=f"{indent}# {blanks}",
            break_on_hyphens=False, break_long_words=False,
        )  # fmt: skip


def _setting(name: str, value: Any, indent: str, mark: str) -> Iterator[str]:
    """A setting; a dictionary's entries have a line each."""
    if not isinstance(value, dict) or not value:
        yield f"{indent}{mark}{name}: {_yaml(value)}"
        return
    yield f"{indent}{mark}{name}:"
    for key, inner in value.items():
        yield f"{indent}{mark}  {_quoted(key)}: {_yaml(inner)}"


def _yaml(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=_WIDE, allow_unicode=_can_be_read(value)).strip()
    text = text.removesuffix("\n...")
    return text if "\n" not in text else _quoted(value)


def _quoted(value: Any) -> str:
    """A value on one line, whatever its characters: text in double quotes, with escapes."""
    unicode = _can_be_read(value)
    return yaml.safe_dump(value, default_style='"', default_flow_style=True, width=_WIDE, allow_unicode=unicode).strip()


def _can_be_read(value: Any) -> bool:
    return all(character.isprintable() for character in str(value))
