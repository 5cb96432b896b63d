"""The page of all settings, written from the models themselves.

``python -m fairsynth.config.reference > docs/configuration.md`` writes it anew; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fairsynth.config.load import load_config, preset_names
from fairsynth.config.run import RunConfig

OPENING = """\
# Settings

Which settings are there, what may each be, and what do the presets set?

Any of them is an option, `--section.key VALUE`, or a line of a YAML file ([how](your-data.md#settings)). Lists and mappings
are written as in YAML: `--bench.severities '[95%, 99%]'`. This page is written by a program from the models in
`fairsynth/config/`:

```sh
python -m fairsynth.config.reference > docs/configuration.md
```

Where presets differ from the defaults, a second table says how; an empty cell there is the default. Where a preset's value
comes from stands beside it, in `fairsynth/config/presets/`.
"""


def sections(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every model of the configuration with its dotted name, the whole first; a section before those inside it."""
    yield prefix, model
    for name, field in model.model_fields.items():
        if inner := _inner(field):
            yield from sections(inner, f"{prefix}.{name}".lstrip("."))


def settings() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting, by its dotted key."""
    for prefix, model in sections():
        for name, field in model.model_fields.items():
            if not _inner(field):
                yield f"{prefix}.{name}".lstrip("."), field


def page() -> str:
    """The whole page, Markdown."""
    presets = {name: load_config(None, name) for name in preset_names()}
    return OPENING + "".join(_section(prefix, model, presets) for prefix, model in sections())


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _section(prefix: str, model: type[BaseModel], presets: Mapping[str, RunConfig]) -> str:
    schema = model.model_json_schema()["properties"]
    rows, differing = [], []
    for name, field in model.model_fields.items():
        if _inner(field):
            continue
        key, default = f"{prefix}.{name}".lstrip("."), _default(field)
        rows.append((f"`{key}`", allowed(schema[name]), _code(default), _cell(field.description or "")))
        values = [_value(preset, key) for preset in presets.values()]
        if any(value != default for value in values):
            differing.append((f"`{key}`", *("" if value == default else _code(value) for value in values)))
    text = f"\n## {prefix or 'The run'}\n\n{_cell(model.__doc__ or '')}\n\n"
    text += _table(("key", "may be", "default", "what it is"), rows)
    return text + (f"\n{_table(('set by presets', *presets), differing)}" if differing else "")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows)).replace("  |", " |")


def _value(config: RunConfig, key: str) -> object:
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _default(field: FieldInfo) -> object:
    return field.get_default(call_default_factory=True)


def allowed(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words, from its JSON schema."""
    if "anyOf" in schema:
        # null is said in the description where it means something of its own.
        return ", or ".join(allowed(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(_code(value) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        return _list(schema)
    if kind == "object":
        values = schema.get("additionalProperties")
        names = schema.get("propertyNames")
        return f"mapping{f' of {allowed(names)}' if names else ''} to {allowed(values) if isinstance(values, dict) else 'values'}"
    words = {"integer": "whole number", "number": "number", "boolean": "true, false", "null": "null", "string": "text"}
    return f"{words[str(kind)]}{_limits(schema)}"


def _list(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])}: each a {allowed(schema['prefixItems'][0])}"
    least = f" ({schema['minItems']} or more)" if schema.get("minItems") else ""
    return f"list{least} of: {allowed(schema['items'])}"


def _limits(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f", {_plain(low)} to {_plain(high)}"
    said = [
        f"{_plain(low)} or more" if low is not None else "",
        f"above {_plain(above)}" if above is not None else "",
        f"at most {_plain(high)}" if high is not None else "",
        f"below {_plain(below)}" if below is not None else "",
        f"as `{schema['pattern']}`" if "pattern" in schema else "",
    ]
    return "".join(f", {part}" for part in said if part)


def _plain(value: object) -> object:
    """A number as people write it: no exponent, no ``.0``."""
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _code(value: object) -> str:
    """A value as one would type it in YAML."""
    if value == "":
        return "empty"
    if isinstance(value, float):
        return f"`{_plain(value)}`"
    plain = list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def _cell(text: str) -> str:
    """A docstring in a cell or paragraph: on one line, and none of its signs marks anything up."""
    plain = " ".join(text.replace("``", "`").split())
    return plain.replace("|", "&#124;").replace("*", "\\*").replace("<", "&lt;")


if __name__ == "__main__":
    print(page(), end="")
