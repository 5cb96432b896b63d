"""Exports beside runs that write to the same folder, and beside people who put files where an export goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fairsynth.commands.export import adapters, images
from fairsynth.errors import ConfigError
from fairsynth.lock import locked, reading
from fairsynth.stages.views import put_export
from tests.support.calling import export, refused
from tests.support.datasets import tree


def filled(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_text(name)
    return folder


def only(*names: str) -> Callable[[Path], bool]:
    """An export is a folder with these files alone."""
    return lambda folder: {path.name for path in folder.iterdir()} <= {*names}


def test_a_run_that_writes_keeps_exports_out_and_an_export_a_run(tmp_path: Path) -> None:
    filled(tmp_path / "run" / "adapters", "README.md")
    kohya = (tmp_path / "run", "--format", "kohya")
    parquet = ("--preset", "demo", "--out", tmp_path / "run", "--format", "parquet")
    with locked(tmp_path / "run"):
        for arguments in (kohya, parquet):
            code, out, err = export(*arguments)
            assert (code, out) == (6, "") and f"in use by process {os.getpid()} on" in err
    with reading(tmp_path / "run"):
        # Others may read it meanwhile: here there is nothing to export.
        assert "has no adapters" in refused(export(*kohya)) and "nothing to export" in refused(export(*parquet))


@pytest.mark.parametrize("module", [adapters, images])
def test_exports_hold_the_folder_while_they_write(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path / "run"):
        pass
    seen = list[bool]()

    def looked_at(*_: object) -> Path:
        with pytest.raises(Exception, match="in use by another run or an export"), locked(tmp_path / "run"):
            pass
        seen.append(True)
        raise ConfigError("enough")

    monkeypatch.setattr(module, "new_export", looked_at)
    if module is adapters:
        file = tmp_path / "run" / "adapters" / "low--flower" / "0" / "pytorch_lora_weights.safetensors"
        filled(file.parent, file.name)
        arguments: tuple[object, ...] = (tmp_path / "run", "--format", "kohya")
    else:
        context = SimpleNamespace(artifacts={"synthesize": None})
        monkeypatch.setattr(images, "finished_stages", lambda config: nullcontext((context, None)))
        arguments = ("--preset", "demo", "--out", tmp_path / "run", "--format", "parquet")
    assert "enough" in refused(export(*arguments)) and seen == [True]  # type: ignore[arg-type]


def test_files_that_come_while_an_export_is_written_are_not_lost(tmp_path: Path) -> None:
    target, private = filled(tmp_path / "there", "old"), filled(tmp_path / ".private", "new")
    (target / "mine").write_text("mine")
    before = tree(target)
    with pytest.raises(ConfigError, match=r"other files came into .*there while it was exported to; give a new folder"):
        put_export(private, target, only("old"))
    assert tree(target) == before and sorted(os.listdir(tmp_path)) == [".private", "there"]


def test_an_earlier_export_gives_way_and_an_empty_place_is_filled(tmp_path: Path) -> None:
    for name in ("first", "second"):
        put_export(filled(tmp_path / ".private", name), tmp_path / "there", only("first", "second"))
        assert os.listdir(tmp_path) == ["there"] and os.listdir(tmp_path / "there") == [name]


def test_a_folder_that_comes_between_is_left_alone_and_so_is_the_old_export(tmp_path: Path) -> None:
    target, private = filled(tmp_path / "there", "old"), filled(tmp_path / ".private", "new")

    def is_export(folder: Path) -> bool:
        filled(target, "mine")  # somebody else makes it anew
        return True

    with pytest.raises(ConfigError, match=r"cannot write to .*; what was there is in .*\.there\.\w+; choose another"):
        put_export(private, target, is_export)
    assert os.listdir(target) == ["mine"]
    (aside,) = tmp_path.glob(".there.*")
    assert os.listdir(aside) == ["old"]
