"""What files hold: each is looked at on its own, then compared with all others."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fairsynth.artifacts import Units
from fairsynth.config import ImageRules
from fairsynth.data.metadata import Entry, Metadata, SetAside
from fairsynth.data.near_duplicates import look, perceptual_hash
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows, write_plan
from fairsynth.errors import FairsynthError
from fairsynth.manifest import SPLITS, image_id
from fairsynth.stages.ingest.content import (
    CHECKED,
    SUFFIXES,
    CheckImages,
    Examined,
    conflicting,
    examine,
    leaking,
    wrong_extensions,
)
from fairsynth.work import run_local
from tests.support.datasets import crops, encoded, unchanged
from tests.support.ingesting import checked_as

WHOLE = encoded(crops()[0])
FILES = {
    "good.png": WHOLE,
    "wide.JPG": encoded(crops()[1].resize((64, 32)), "JPEG"),
    "moving.gif": encoded(crops()[2], "GIF", save_all=True, append_images=[crops()[3]]),
    "empty.png": b"",
    "cut.png": WHOLE[: len(WHOLE) // 2],
    "text.png": b"no image",
    "page.png": b"%PDF-1.7",
    "tiny.png": encoded(crops()[4].resize((4, 40))),
    "plain.png": encoded(Image.new("RGB", (40, 40), "red")),
    "strip.png": encoded(crops()[5].resize((400, 10))),
}


def rows(*paths: str) -> list[dict[str, str]]:
    """Rows of a task."""
    return [{"path": path, "location": ""} for path in paths]


def rows_by_path(root: Path, *paths: str, near: bool = False, **rules: Any) -> dict[str, dict[str, Any]]:
    """The row of each path."""
    work = CheckImages(Storage(str(root)), ImageRules(**rules), look=near)
    with unchanged(root):
        table = work({"rows": rows(*paths)})["checked"]
    return {row["path"]: row for row in table.to_pylist()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files above."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_a_good_file_has_facts_and_a_bad_one_has_a_reason(folder: Path) -> None:
    seen = rows_by_path(folder, *FILES, "none.png")
    reasons = {"empty": "empty", "cut": "truncated", "text": "unidentified", "page": "format", "none": "missing_file"}
    reasons |= {"tiny": "too_small", "plain": "low_information", "strip": "aspect"}
    assert {p: row["reason"] for p, row in seen.items() if row["reason"]} == {f"{n}.png": r for n, r in reasons.items()}
    facts = {path: [row[k] for k in ("format", "width", "height", "frames")] for path, row in seen.items()}
    assert facts["good.png"] == ["PNG", 96, 96, 1]
    assert facts["wide.JPG"] == ["JPEG", 64, 32, 1]
    assert facts["moving.gif"] == ["GIF", 96, 96, 2]
    assert all(facts[f"{name}.png"] == [None] * 4 for name in reasons)


def test_every_file_that_can_be_read_has_its_hash(folder: Path) -> None:
    seen = rows_by_path(folder, *FILES, "none.png")
    for path, content in FILES.items():
        assert seen[path]["sha256"] == (hashlib.sha256(content).hexdigest() if content else "")
    assert seen["none.png"]["sha256"] == ""


def test_rules_decide_what_is_usable(folder: Path) -> None:
    seen = rows_by_path(folder, "tiny.png", "plain.png", "strip.png", min_side=4, constant="keep", max_aspect=40)
    assert {row["reason"] for row in seen.values()} == {""}
    strict = rows_by_path(folder, "good.png", "moving.gif", max_pixels=2000, frames="refuse")
    assert {path: row["reason"] for path, row in strict.items()} == {"good.png": "too_large", "moving.gif": "too_large"}
    assert rows_by_path(folder, "moving.gif", frames="refuse")["moving.gif"]["reason"] == "several_frames"


def test_a_row_hangs_on_its_own_file_alone(folder: Path) -> None:
    at_once = rows_by_path(folder, *FILES, "none.png")
    assert at_once == {path: row for name in (*FILES, "none.png") for path, row in rows_by_path(folder, name).items()}


def test_what_near_duplicates_are_found_by_is_added_where_asked(folder: Path) -> None:
    seen = rows_by_path(folder, "good.png", "cut.png", near=True)
    assert seen["good.png"]["hash"] == perceptual_hash(crops()[0])
    assert seen["good.png"]["thumbnail"] == look(crops()[0])
    assert seen["cut.png"]["hash"] is None and "hash" not in rows_by_path(folder, "good.png")["good.png"]


def test_a_plain_loop_over_units_gives_the_same_rows(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # What a worker gets: the callable and the rows in another process.
    out, paths = tmp_path_factory.mktemp("out"), sorted(FILES)
    table = pa.Table.from_pylist(rows(*paths))
    names, units = write_plan(out / "plan.parquet", table, 3, "files"), Units(out / "units")
    work = pickle.loads(pickle.dumps(CheckImages(Storage(str(folder)), ImageRules())))
    with unchanged(folder):
        run_local(units, names, lambda: work, PlanRows(out / "plan.parquet"))
    made = [row for name in names for row in pq.read_table(units[name] / "checked.parquet").to_pylist()]
    assert made == list(rows_by_path(folder, *paths).values())
    assert json.dumps(made)


def entry(path: str, split: str = "train", label: str = "x", attribute: str = "p") -> Entry:
    """An image."""
    return Entry(path, split, label, attribute)


def seen_as(content: Mapping[Entry, str], bad: Mapping[str, str] | None = None) -> Examined:
    """Entries with made-up content, examined."""
    found = {e.path: text for e, text in content.items()}
    table = checked_as(list(content), lambda e: (found[e.path], (bad or {}).get(e.path, "")))
    return examine(Metadata(list(content)), table)


def test_copies_inside_a_split_point_to_the_first() -> None:
    content = {entry("c"): "1", entry("a"): "1", entry("b"): "1", entry("v", "val"): "2", entry("w", "val"): "2"}
    seen = seen_as(content)
    assert seen.first_of == {"b": image_id("a"), "c": image_id("a"), "w": image_id("v")}
    assert not seen.conflicts and not seen.leaks and len(seen.used()) == 5


def test_a_later_split_keeps_what_it_shares_with_an_earlier_one() -> None:
    content = {
        entry("t1"): "1",
        entry("t2"): "1",
        entry("v1", "val"): "1",
        entry("t3"): "2",
        entry("e3", "test"): "2",
        entry("v4", "val"): "3",
        entry("e4", "test"): "3",
        entry("e5", "test"): "3",
    }
    seen = seen_as(content)
    assert seen.leaks == {
        "t1": "same content as v1 in val",
        "t2": "same content as v1 in val",
        "t3": "same content as e3 in test",
        "v4": "same content as e4 in test",
    }
    assert seen.first_of == {"e5": image_id("e4")}  # nothing points to an image that went
    assert [e.path for e, _ in seen.used()] == ["e3", "e4", "e5", "v1"]


def test_one_content_under_two_groups_is_a_conflict_of_all_its_images() -> None:
    content = {
        entry("a"): "1",
        entry("b"): "1",
        entry("c", label="y"): "1",
        entry("d", attribute="q"): "2",
        entry("e", "test"): "2",
        entry("f"): "3",
    }
    seen = seen_as(content)
    assert seen.conflicts == {
        "a": "same content as c of (y, p)",
        "b": "same content as c of (y, p)",
        "c": "same content as a of (x, p)",
        "d": "same content as e of (x, p)",
        "e": "same content as d of (x, q)",
    }
    assert not seen.leaks and not seen.first_of and [e.path for e, _ in seen.used()] == ["f"]


def test_bad_files_are_never_copies() -> None:
    # Two empty files, or two copies of a broken one, say nothing of labels.
    seen = seen_as({entry("a"): "1", entry("b", label="y"): "1", entry("c"): "1"}, {"a": "truncated", "b": "truncated"})
    assert seen.bad == [SetAside("a", "truncated"), SetAside("b", "truncated")] and not seen.conflicts
    assert [(e.path, sha) for e, sha in seen.used()] == [("c", "1")]


def test_rows_that_are_not_those_of_the_metadata_are_an_internal_error() -> None:
    table = checked_as([entry("a"), entry("b")], lambda e: (e.path, ""))
    with pytest.raises(FairsynthError, match="not those of the metadata"):
        examine(Metadata([entry("a"), entry("c")]), table)


IMAGES = st.builds(
    Entry, st.integers(0, 99).map(str), st.sampled_from(SPLITS), st.sampled_from("xy"), st.sampled_from("pq")
)


@given(st.dictionaries(IMAGES, st.sampled_from("123456"), max_size=25), st.sets(st.integers(0, 99).map(str)))
@settings(deadline=None)
def test_what_is_left_has_no_contradiction(content: dict[Entry, str], bad: set[str]) -> None:
    content = {e: sha for e, sha in {e.path: (e, sha) for e, sha in content.items()}.values()}
    seen = seen_as(content, dict.fromkeys(bad, "empty"))
    left: dict[str, list[Entry]] = {}
    for e, sha in seen.used():
        left.setdefault(sha, []).append(e)
    for found in left.values():
        assert len({(e.label, e.attribute, e.split) for e in found}) == 1
        assert {seen.first_of.get(e.path) for e in found[1:]} <= {image_id(found[0].path)}
        assert found[0].path not in seen.first_of
    # Nothing goes without need: what went as a leak or conflict has a partner that says so.
    for path in {**seen.conflicts, **seen.leaks}:
        (entry,) = (e for e in content if e.path == path)
        partners = [e for e, sha in content.items() if sha == content[entry] and e.path not in bad]
        key = (lambda e: e[2:4]) if path in seen.conflicts else (lambda e: e.split)
        assert len({key(e) for e in partners}) > 1
    gone = [*seen.conflicts, *seen.leaks, *(image.path for image in seen.bad)]
    assert len(gone) == len(set(gone)) and len(gone) + len(seen.used()) == len(content)


def test_comparing_does_not_hang_on_the_order() -> None:
    same = {"1": [entry("a"), entry("b", "val")], "2": [entry("c"), entry("d", label="y")]}
    backwards = {key: found[::-1] for key, found in reversed(same.items())}
    assert leaking(same).keys() == leaking(backwards).keys() and conflicting(same) == conflicting(backwards)


def test_extensions_are_compared_with_the_content() -> None:
    names = {
        "a.png": "PNG",
        "b.PNG": "PNG",
        "c.jpg": "PNG",
        "d.jfif": "JPEG",
        "e": "PNG",
        "f.tif": "TIFF",
        "g.gif": "WEBP",
    }
    table = pa.Table.from_pylist(
        [{"path": p, "format": f} for p, f in {**names, "h.png": None}.items()], schema=CHECKED
    )
    assert wrong_extensions(table) == ["c.jpg", "g.gif"]


def test_every_format_that_is_read_has_its_extensions() -> None:
    from fairsynth.data.decode import FORMATS

    assert set(FORMATS) <= SUFFIXES.keys()
