"""What is told and kept of a cell whose data are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.commands.bench import run as module
from fairsynth.commands.bench.grid import cells
from fairsynth.commands.bench.rows import Failed
from fairsynth.config.load import load_config
from fairsynth.errors import DataError
from fairsynth.stages.context import opened


def test_the_reason_has_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DataError("no answer from https://ann:hunter22@photos.example.org")

    monkeypatch.setattr(module, "check_early", refuse)
    config, said = load_config(None, "demo", {"out": str(tmp_path)}), list[str]()
    cell = cells(config)[0]
    with opened(config) as base:
        found = module._outcomes(base, cell, cell.config(config), said.append)
    assert said == ["  failed: no answer from https://***@photos.example.org"]
    assert len(found) == len(cell.methods)
    assert {one.reason if isinstance(one, Failed) else "" for one in found} == {said[0].removeprefix("  failed: ")}
