"""The text of inspect fits a terminal: what is long is cut and counted there, and whole in the findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairsynth.commands.inspect.text import lines
from tests.support.datasets import crops, encoded, tiny_folder_dataset
from tests.support.ingesting import inspected

FRAMES = {"train": (25, 12, 12, 12), "val": (2,) * 4, "test": (2,) * 4}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of the first group 14 images are one file, and 11 more the same scene a little brighter each."""
    photo = crops()[320]
    changed = dict.fromkeys(range(14), encoded(photo))
    changed |= {14 + i: encoded(photo.point(lambda v, i=i: min(255, v + i + 1))) for i in range(11)}
    return inspected(tiny_folder_dataset(tmp_path_factory.mktemp("film"), FRAMES, photos=True, changed=changed))


def test_of_many_copies_some_are_shown_and_all_are_counted(film: dict[str, Any]) -> None:
    text = list(lines(film))
    exact, near = (
        text[text.index(f"{title}: 1") + 1] for title in ("exact copies inside a split", "images that look alike")
    )
    assert exact == "  " + " = ".join(f"train/{i:04d}.png" for i in range(10)) + " and 4 more"
    assert near.count(" ~ ") == 9 and near.endswith(" and 2 more")
    assert (len(film["copies"][0]), len(film["near_copies"][0]["paths"])) == (14, 12)


def test_of_many_groups_some_are_shown(film: dict[str, Any]) -> None:
    group, tie = film["groups"][0], {"label": "x", "attribute": "y", "share": 0.5}
    many = film | {
        "groups": [group | {"label": f"label{i:03d}"} for i in range(500)],
        "association": film["association"] | {"per_label": [tie] * 500},
    }
    text = list(lines(many))
    assert sum(line.startswith("label0") for line in text) == 50
    assert "and 450 more (--json lists all)" in text and "  and 450 more (--json lists all)" in text
    assert text.count("  50.0% of x are y") == 50


def test_a_long_value_is_cut(film: dict[str, Any]) -> None:
    long = film | {
        "groups": [film["groups"][0] | {"label": "l" * 200_000}, *film["groups"][1:]],
        "problems": ["p" * 200_000], "remarks": ["r" * 200_000], "orphans": ["o" * 200_000],
    }  # fmt: skip
    assert max(map(len, lines(long))) < 2010
    assert any(line.startswith("l" * 60 + "..., indoor ") and len(line) < 150 for line in lines(long))


def test_few_are_shown_as_they_are(tmp_path: Path) -> None:
    found = inspected(tiny_folder_dataset(tmp_path, changed=dict.fromkeys((0, 1), encoded(crops()[0]))))
    assert "  train/0000.png = train/0001.png" in list(lines(found))
    assert not any(" more" in line for line in lines(found))
