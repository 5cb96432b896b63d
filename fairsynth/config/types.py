"""The types of settings."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fairsynth.config.values import plain_value

Fraction = Annotated[float, Field(ge=0, le=1)]


Positive = Annotated[int, Field(ge=1, strict=True)]


# Of what a plan lists one by one: trials, seeds.
Few = Annotated[int, Field(ge=1, le=10_000, strict=True)]


Generator = Literal["vanilla", "lora", "dreambooth", "clustered-dreambooth"]


def _text_keys(value: object) -> object:
    """YAML reads the key of ``0: landbird`` as a number; in the dataset it is text. Keys are spelled as values are."""
    if isinstance(value, dict):
        return {
            plain_value(key.strip()) if isinstance(key := _text(k), str) else key: _text(v) for k, v in value.items()
        }
    return value


def _text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _ratio(value: object) -> object:
    """``original``, a ratio, or a ratio in percent: ``99.9%``."""
    if value in (None, "", "original"):
        return None
    text = str(value).strip()
    return float(Decimal(text[:-1]) / 100) if text.endswith("%") and _is_number(text[:-1]) else value


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None


Words = Annotated[dict[str, str], BeforeValidator(_text_keys)]


SplitNames = Annotated[dict[str, Literal["train", "val", "test", "drop"]], BeforeValidator(_text_keys)]


Severity = Annotated[Annotated[float, Field(gt=0.5, lt=1)] | None, BeforeValidator(_ratio)]


class Section(BaseModel):
    """Base of all sections: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
