"""From a preset, a YAML file and command-line overrides to a RunConfig.

Precedence: command line > YAML > preset > default. Every mistake is reported at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fairsynth.config import RunConfig, yaml_text
from fairsynth.config.suggest import did_you_mean, nearest
from fairsynth.config.values import brief, spelled
from fairsynth.errors import ConfigError

# Label and attribute of the formats that presets have, where nothing else is asked for.
_USUAL = {"waterbirds": ("y", "place"), "celeba": ("Blond_Hair", "Male"), "utkface": ("gender", "age")}


def preset_names() -> list[str]:
    """Names of the presets in the package."""
    folder = resources.files("fairsynth") / "config" / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


# Settings that name a model: a hub id, a folder, or one of these words.
_MODELS = {"models": ("diffusion", "clip"), "classify": ("backbone",), "synthesize": ("few_steps",)}
_WORDS = ("demo", "demo-flow", "small")
# So many wrong settings are named; each is compared with all that there are.
_MOST_PROBLEMS = 20
_LONGEST_KEY = 9


def load_config(
    path: str | Mapping[str, Any] | None = None, preset: str | None = None, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """Merge preset, YAML file and overrides (dotted keys) into a RunConfig. ``path``: the file, or what one would hold.

    Raises ConfigError naming every wrong key and value, with a suggestion for misspelt keys.
    """
    merged: dict[str, Any] = {}
    if preset is not None:
        if preset not in preset_names():
            raise ConfigError(
                f"unknown preset {preset!r}{suggestion(preset, preset_names())}; presets: {', '.join(preset_names())}"
            )
        merged = _parse(
            (resources.files("fairsynth") / "config" / "presets" / f"{preset}.yaml").read_text("utf-8"), preset
        )
    given = merged
    if path is not None:
        merged = _merge(merged, _read(path) if isinstance(path, str) else path)
    for key, value in (overrides or {}).items():
        whole_section = "." not in key and isinstance(value, dict)
        merged = _merge(merged, {key: value}) if whole_section else _put(merged, key.split(".", _LONGEST_KEY), value)
    return _validated(_without_foreign_words(given, merged))


def _meant(path: Path) -> str:
    """What to type instead of a config that cannot be read: a preset, a file of a similar name, a folder's config."""
    if str(path) in preset_names():
        return f"; did you mean --preset {path}?"
    if path.is_dir():
        return f"; for a dataset's folder, 'fairsynth init {path}' writes a config"
    try:
        beside = {file.stem: file.name for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml")}
    except OSError:
        beside = {}
    # The ending, which all have, must not count: by it every file would be near.
    near = nearest(path.stem, beside)
    return "" if near is None else f" (did you mean {beside[near]!r}?)"


def _without_foreign_words(preset: Mapping[str, Any], merged: dict[str, Any]) -> dict[str, Any]:
    """A preset's words are of its own columns: where another column was asked for, they would be of something else."""
    was, now = preset.get("data"), merged.get("data")
    if not isinstance(was, dict) or not isinstance(now, dict):
        return merged
    if was.get("format") != now.get("format"):
        foreign = {"label_names", "attribute_names", "aligned", "options", "label_column", "attribute_column"}
    else:
        pairs = zip(_columns(was), _columns(now), ("label", "attribute"), strict=True)
        foreign = {name for one, other, what in pairs if one != other for name in (f"{what}_names", "aligned")}
    return merged | {"data": {k: v for k, v in now.items() if k not in foreign or v != was.get(k)}}


def _columns(data: Mapping[str, Any]) -> tuple[str, str]:
    """Label and attribute, spelled alike: what was asked for, or the format's own; several as one text."""
    found, options = [], data.get("options")
    inner = options if isinstance(options, dict) else {}
    # What is no text here is refused later, with its place.
    for what, usual in zip(("label", "attribute"), _USUAL.get(str(data.get("format", "")), ("", "")), strict=True):
        asked = data.get(f"{what}_column") or inner.get(what) or usual
        found.append(spelled(", ".join(map(str, asked)) if isinstance(asked, list | tuple) else str(asked)))
    return found[0], found[1]


def changed(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """The config with other values (dotted keys). Raises ConfigError as ``load_config`` does."""
    merged = config.model_dump(exclude_unset=True)  # what is open stays so: a base model may have its own value
    for key, value in overrides.items():
        merged = _put(merged, key.split("."), value)
    return _validated(merged)


def _validated(merged: Mapping[str, Any]) -> RunConfig:
    unknown = [*_unknown_keys(merged)]
    problems = [f"unknown key {brief(key)}{suggestion(key, sorted(known_keys()))}" for key in unknown[:_MOST_PROBLEMS]]
    if len(unknown) > _MOST_PROBLEMS:
        problems.append(f"and {len(unknown) - _MOST_PROBLEMS:,} more unknown keys")
    if problems := [*problems, *yaml_text.text_problems(merged)[:_MOST_PROBLEMS]]:
        raise ConfigError("; ".join(problems))
    try:
        return _with_whole_paths(RunConfig.model_validate(merged))
    except ValidationError as error:
        raise ConfigError(value_problems(error)) from None


def _with_whole_paths(config: RunConfig) -> RunConfig:
    """The config with folders of models by their whole path: workers have working folders of their own."""
    found = {}
    for section, names in _MODELS.items():
        given = {name: place for name in names if (place := getattr(getattr(config, section), name)) is not None}
        here = {
            name: os.path.abspath(os.path.expanduser(place)) for name, place in given.items() if place not in _WORDS
        }
        changed = {name: place for name, place in here.items() if _is_model(place) and place != given[name]}
        if changed:
            found[section] = getattr(config, section).model_copy(update=changed)
    return config.model_copy(update=found) if found else config


def _is_model(place: str) -> bool:
    return os.path.isdir(place) or (place.endswith(".safetensors") and os.path.isfile(place))


def parse_overrides(tokens: Sequence[str]) -> dict[str, Any]:
    """``["--a.b", "1", "--c=x"]`` as ``{"a.b": 1, "c": "x"}``; values are read as YAML.

    Raises ConfigError for a word that belongs to no option and for an option without a value.
    """
    overrides: dict[str, Any] = {}
    rest = list(tokens)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            preset = f" (did you mean --preset {word}?)" if word in preset_names() else ""
            raise ConfigError(f"unexpected argument {word!r}{preset}; options are written --section.key VALUE")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"option --{key} needs a value: --{key} VALUE")
            value = rest.pop(0)
        name = key.replace("-", "_")
        overrides[name] = _read_value(name, value)
    return overrides


def _read_value(key: str, value: str) -> Any:
    if key in ("out", "data.root"):
        return value
    try:
        return yaml_text.parse(value)
    except yaml.YAMLError:
        return value


def _read(path: str) -> dict[str, Any]:
    try:
        text = yaml_text.read(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the config {path}: {why}{_meant(Path(path))}") from error
    return _parse(text, path)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        content = yaml_text.parse(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {yaml_text.problem(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{where} must hold sections such as 'data:' and 'tune:', not a {type(content).__name__}")
    return _without_empty(content, RunConfig)


def _without_empty(content: dict[Any, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The same, but a section without settings, such as one whose settings are all comments, is an empty one."""
    filled = {}
    for key, value in content.items():
        field = model.model_fields.get(str(key))
        section = field.annotation if field and isinstance(field.annotation, type) else None
        if section is not None and issubclass(section, BaseModel) and (value is None or isinstance(value, dict)):
            value = _without_empty(value or {}, section)
        filled[key] = value
    return filled


def _merge(base: dict[str, Any], over: Mapping[str, Any], model: type[BaseModel] | None = RunConfig) -> dict[str, Any]:
    """Sections are merged, and so are a format's options; any other dictionary, such as label_names, takes the old one's place."""
    merged = dict(base)
    for key, value in over.items():
        field = model.model_fields.get(key) if model else None
        annotation = field.annotation if field else None
        section = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and (section or key == "options")
        merged[key] = _merge(merged[key], value, section) if both else value
    return merged


def _put(base: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """``base`` with the value at a path of keys; other keys stay."""
    head, *rest = path
    inner = base.get(head)
    return {**base, head: _put(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}


def known_keys(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Names of all settings and sections, dotted."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{prefix}{name}.")


def _unknown_keys(content: Mapping[str, Any], model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        field = model.model_fields.get(str(key))
        if field is None:
            yield f"{prefix}{key}"
        elif isinstance(value, dict) and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _unknown_keys(value, field.annotation, f"{prefix}{key}.")


def suggestion(word: str, known: Sequence[str]) -> str:
    """A guess at what was meant: the same last part in another section, else the closest spelling."""
    same_name = [k for k in known if k.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]]
    return f" (did you mean {same_name[0]!r}?)" if same_name else did_you_mean(word, known, cutoff=0.5)


def value_problems(error: ValidationError, prefix: str = "") -> str:
    """What is wrong with values, each place once: what is allowed, what was given, and what may have been meant."""
    places: dict[str, list[Any]] = {}
    for detail in error.errors():
        places.setdefault(_place(detail["loc"], prefix), []).append(detail)
    return "; ".join(_problem(where, details) for where, details in places.items())


def _place(parts: Iterable[object], prefix: str) -> str:
    named = [str(part) for part in parts if not str(part).startswith(("constrained", "literal", "function"))]
    return ".".join([*([prefix] if prefix else []), *(part for part in named if part not in ("int", "str", "float"))])


def _problem(where: str, details: Sequence[Any]) -> str:
    """Several details of one place are the alternatives of its type."""
    first, *others = (detail["msg"].removeprefix("Value error, ") for detail in details)
    allowed = " or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    if not where:
        return allowed
    words = [word for d in details for word in re.findall("'([^']*)'", str(d.get("ctx", {}).get("expected", "")))]
    given = details[0]["input"]
    guess = did_you_mean(given, words) if isinstance(given, str) else ""
    return f"{where}: {allowed} (given: {brief(given)}){guess}"
