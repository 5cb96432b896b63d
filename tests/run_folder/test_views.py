"""Views are replaced whole, and not while something of others is in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairsynth.errors import ConfigError
from fairsynth.run_folder.mark import CONTENTS, check_folder, claim
from fairsynth.run_folder.views import private_names, remove_view, replace_view

LEFT = f".adapters.{'a' * 32}"


def filled(target: Path, *names: str) -> Path:
    """A private folder with these files."""
    private = target.with_name(f".{target.name}.{'b' * 32}")
    for name in names:
        (private / name).parent.mkdir(parents=True, exist_ok=True)
        (private / name).write_text(name)
    return private


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {CONTENTS}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    claim(tmp_path)
    return tmp_path / "adapters"


def test_a_view_takes_the_place_of_the_one_before(target: Path) -> None:
    for names in (("a/x", "b"), ("a/x", "c\nd"), ("e",)):
        replace_view(filled(target, *names), target)
        assert files(target) == {*names}
    assert set(os.listdir(target.parent)) == {".fairsynth", "adapters"}


def test_what_killed_runs_left_goes_and_what_is_named_alike_stays(target: Path) -> None:
    alike = (".adapters.bak", ".adapters.", ".adapters.0123", f".adapters.{'A' * 32}", f".other.{'a' * 32}")
    for name in (LEFT, *alike):
        (target.parent / name).mkdir()
    assert [path.name for path in private_names(target.parent, "adapters")] == [LEFT]
    replace_view(filled(target, "a"), target)
    assert set(os.listdir(target.parent)) == {".fairsynth", "adapters", *alike}


@pytest.mark.parametrize("name", ["notes.txt", "a/notes.txt", "new/notes.txt"])
def test_files_that_people_put_into_a_view_keep_it(name: str, target: Path) -> None:
    replace_view(filled(target, "a/x", "b"), target)
    (target / name).parent.mkdir(exist_ok=True)
    (target / name).write_text("mine")
    for replaced in (lambda: replace_view(filled(target, "c"), target), lambda: remove_view(target)):
        with pytest.raises(ConfigError, match=r"notes\.txt.*, which fairsynth did not put there"):
            replaced()
        assert files(target) == {"a/x", "b", name} and (target / name).read_text() == "mine"


def test_a_folder_that_people_put_in_a_views_place_stays(target: Path) -> None:
    replace_view(filled(target, "a"), target)
    target.rename(target.with_name("kept"))
    target.mkdir()
    (target / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="holds adapters, which no run of fairsynth made"):
        replace_view(filled(target, "c"), target)
    with pytest.raises(ConfigError, match="holds adapters, which no run of fairsynth made"):
        check_folder(target.parent)
    assert files(target) == {"mine"}


def test_what_desktops_leave_and_what_is_gone_keep_nothing(target: Path) -> None:
    replace_view(filled(target, "a", "b"), target)
    (target / ".DS_Store").write_text("")
    (target / "a").unlink()
    replace_view(filled(target, "c"), target)
    assert files(target) == {"c"}


def test_a_view_that_is_no_longer_true_goes(target: Path) -> None:
    remove_view(target)
    replace_view(filled(target, "a"), target)
    remove_view(target)
    assert os.listdir(target.parent) == [".fairsynth"]
