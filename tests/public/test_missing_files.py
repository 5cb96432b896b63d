"""Files that are named and not there by that name: taken where one file alone can be meant, else explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fairsynth.data.rules.why_missing import why_missing
from fairsynth.errors import DataError
from tests.support.data.dataset_files import image, load, put
from tests.support.ingesting import LENIENT, decided, ingested, inspected
from tests.support.public import image_folder, plain, read


@pytest.mark.parametrize("edit", [
    lambda name, root: name.replace("/", "\\"), lambda name, root: f"./{name}", lambda name, root: f".\\{name}".replace("/", "\\"),
    lambda name, root: f"{root.name}/{name}", lambda name, root: f"{root.name}\\{name}".replace("/", "\\"),
])  # fmt: skip
def test_names_that_can_mean_one_file_alone(tmp_path: Path, edit: Callable[[str, Path], str]) -> None:
    image_folder(tmp_path, lambda row: (edit(row[0], tmp_path), *row[1:]))
    found = read(tmp_path)
    assert found.entries == plain(tmp_path)
    assert bool(found.remarks) == (edit("a/b", tmp_path) != "./a/b")


@pytest.mark.parametrize(
    "name", ["..\\images\\00000.jpg", "C:\\images\\00000.jpg", "\\images\\00000.jpg", "images\\..\\..\\x.jpg"]
)
def test_backslashes_are_no_way_out(tmp_path: Path, name: str) -> None:
    image_folder(tmp_path / "data")
    put(tmp_path / "x.jpg", image(1))
    with (tmp_path / "data" / "metadata.csv").open("a", encoding="utf-8") as table:
        table.write(f"{name},cat,in,train\n")
    try:
        entries = load(tmp_path / "data").entries
    except DataError as error:
        assert "must be a relative path inside" in str(error)
    else:  # a file name like any other, which is not there
        assert name in {entry.path for entry in entries}


@pytest.mark.parametrize(("edit", "hint"), [
    (lambda name: name.replace(".jpg", ".png"), "24 of 24 missing files are there with another ending"),
    (lambda name: name.upper(), "24 of 24 missing files are there in other case"),
    (lambda name: f"old/{name}", "24 of 24 missing files are there without 'old/' in front: remove it"),
    (lambda name: name.removeprefix("images/"), "24 of 24 missing files are there with 'images/' in front: add it"),
    (lambda name: name.replace("0", "%30"), "24 of 24 missing files are there with %-signs decoded"),
    (lambda name: f"{name} ", "24 of 24 missing files are there without blanks around the name"),
    (lambda name: name.replace(".jpg", ""), "24 of 24 missing files are there with another ending"),
])  # fmt: skip
def test_one_rule_that_explains_the_missing_files_is_told(
    tmp_path: Path, edit: Callable[[str], str], hint: str
) -> None:
    image_folder(tmp_path, lambda row: (edit(row[0]), *row[1:]))
    with pytest.raises(DataError, match="24 of 24 images cannot be used") as caught:
        ingested(tmp_path, tmp_path.parent / "out")
    assert hint in str(caught.value)
    assert any(hint in problem for problem in inspected(tmp_path)["problems"])


def test_what_no_rule_explains_has_no_hint() -> None:
    assert why_missing(["a/x.jpg", "a/y.jpg", "a/z.jpg"], ["b/1.jpg", "a/x.png"]) == ""
    assert why_missing([], ["a.jpg"]) == "" == why_missing(["a.jpg"], [])
    assert why_missing(["a/x.jpg", "a/y.jpg"], ["a/x.png", "a/y.png", "z.png"]).startswith(
        "2 of 2 missing files are there with"
    )


def test_a_part_of_a_dataset(tmp_path: Path) -> None:
    image_folder(tmp_path)
    for number in (0, 9, 17):
        (tmp_path / "images" / f"{number:05d}.jpg").unlink()
    with pytest.raises(DataError, match=r"3 of 24 images cannot be used .*--data.missing_files leave_out"):
        ingested(tmp_path, tmp_path.parent / "out")
    found = decided(tmp_path, missing_files="leave_out")
    assert (found.counts.used, found.counts.quarantined, found.counts.excluded) == (21, 0, 3)
    assert {image.reason for image in found.excluded} == {"not_there"}
    assert "3 of 24 images are named and not there: they are left out (data.missing_files)" in found.remarks


def test_files_that_nobody_names_are_counted_and_listed(tmp_path: Path) -> None:
    image_folder(tmp_path / "data")
    put(tmp_path / "data" / "more" / "a.heic", b"x")
    put(tmp_path / "data" / "b.JPG", image(3))
    found = ingested(tmp_path / "data", tmp_path / "out", **LENIENT)
    assert found.record["not_named"] == 2
    assert (found.folder / "not_named.json").read_text("utf-8") == '[\n "b.JPG",\n "more/a.heic"\n]'
    assert any("2 image files are not named by the metadata: b.JPG, more/a.heic" in r for r in found.record["remarks"])
