"""The style sheet: every text and every mark has the contrast that WCAG 2.2 asks for, light, dark and in print."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

import fairsynth.stages.report as package

CSS = Path(package.__file__).parent.joinpath("templates", "style.css").read_text("utf-8")
TEXTS = ("text", "quiet", "link", "good", "bad", "unsure")
MARKS = ("mark", "ours", "edge", "c-none", *(f"c{i}" for i in range(8)))


def themes() -> dict[str, dict[str, str]]:
    """The colours by theme: dark and print change those of light."""
    found = [
        dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})", block)) for block in re.findall(r":root\{(.*?)\}", CSS, re.S)
    ]
    light, dark, printed = found
    return {"light": light, "dark": light | dark, "print": light | printed}


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, as WCAG defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure_is_right() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.01
    )


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_texts_and_marks_have_contrast(theme: str) -> None:
    colours = themes()[theme]
    weak = [
        (name, ground)
        for names, least in ((TEXTS, 4.5), (MARKS, 3.0))
        for name, ground in product(names, ("page", "card"))
        if contrast(colours[name], colours[ground]) < least
    ]
    assert weak == []


def test_colours_are_named_once_and_used_by_name() -> None:
    rest = re.sub(r":root\{.*?\}", "", CSS, flags=re.S)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b", rest)
    assert set(re.findall(r"var\(--([\w-]+)\)", CSS)) <= themes()["light"].keys()
    assert "url(" not in CSS and "@import" not in CSS
