"""The page of settings is what the models give; every setting says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, TypeAdapter, create_model

from fairsynth.config import RunConfig, Section
from fairsynth.config.load import load_config, parse_overrides
from fairsynth.config.reference import allowed, page, sections, settings
from fairsynth.config.types import Fraction, Positive, SplitNames

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_models_give() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m fairsynth.config.reference > docs/configuration.md"


def test_every_setting_and_section_says_what_it_is() -> None:
    assert [key for key, field in settings() if len((field.description or "").split()) < 2] == []
    assert [name for name, model in sections() if model.__doc__ in (None, "", Section.__doc__)] == []


def test_every_setting_has_a_row_and_every_section_a_heading() -> None:
    text = page()
    assert [key for key, _ in settings() if text.count(f"\n| `{key}` | ") not in (1, 2)] == []
    assert [name for name, _ in sections() if name and f"\n## {name}\n" not in text] == []
    assert {"data.images.min_side", "synthesize.guidance", "seed"} <= {key for key, _ in settings()}


def test_a_section_that_is_added_is_found_at_any_depth() -> None:
    deep = create_model("Deep", __base__=Section, x=(int, 1))
    added = create_model(
        "Added", __base__=RunConfig, new=(create_model("New", __base__=Section, deep=(deep, deep())), ...)
    )
    assert {"new", "new.deep", "data.images"} <= {name for name, _ in sections(added)}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Positive, "whole number, 1 or more"),
        (Fraction, "number, 0 to 1"),
        (Annotated[float, Field(gt=0, le=0.5)], "number, above 0, at most 0.5"),
        (Annotated[int, Field(ge=0, lt=10)], "whole number, 0 or more, below 10"),
        (bool, "true, false"),
        (Literal["a", "b"] | None, "`a`, `b`, or null"),
        (Positive | Literal["auto"], "whole number, 1 or more, or `auto`"),
        (tuple[Fraction, Fraction], "list of 2: each a number, 0 to 1"),
        (Annotated[tuple[str, ...], Field(min_length=1)], "list (1 or more) of: text"),
        (dict[str, int], "mapping to whole number"),
        (SplitNames, "mapping to `train`, `val`, `test`, `drop`"),
    ],
)
def test_what_a_value_may_be_is_said_in_words(kind: object, words: str) -> None:
    assert allowed(TypeAdapter(kind).json_schema()) == words


def test_a_default_can_be_typed_as_the_page_shows_it() -> None:
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `") and line.count(" | ") >= 3]
    known, shown = dict(settings()), {}
    for key, _, default, *_ in rows:
        # A row further down is of the second table, that of the presets.
        shown.setdefault(key.strip("| `"), default.strip("`"))
    given = [word for key, text in shown.items() if key in known and text != "empty" for word in (f"--{key}", text)]
    assert len(given) > 200 and load_config(None, None, parse_overrides(given)) == RunConfig()
