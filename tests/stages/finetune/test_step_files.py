"""How far adapters in training are: told in time, counted in adapters, never a reason to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.stages.finetune import step_files
from fairsynth.stages.finetune.step_files import StepFile, under_way


def test_adapters_in_training_count_by_their_steps_and_those_that_ended_do_not(tmp_path: Path) -> None:
    one, two = StepFile(tmp_path / "lot-1.safetensors"), StepFile(tmp_path / "lot-2.safetensors")
    one({"a": 0.5, "b": 0.25})
    two({"c": 1.0, "d": 0.5})
    assert under_way(tmp_path, {"a", "b", "d", "waiting"}) == pytest.approx(1.25)
    assert 0.9 < under_way(tmp_path, {"c"}) < 1, "what is not committed is not done"
    StepFile(tmp_path / "lot-3.safetensors")({"a": 0.75})  # cut otherwise, by an earlier run
    assert under_way(tmp_path, {"a"}) == 0.75, "an adapter counts once"
    for file in (one, two):
        file.remove()
    assert under_way(tmp_path, {"b", "c", "d"}) == 0


def test_it_is_written_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StepFile(tmp_path / "lot-1.safetensors")
    file({"a": 0.1})
    file({"a": 0.2})
    assert under_way(tmp_path, {"a"}) == 0.1
    monkeypatch.setattr(step_files, "EVERY", 0.0)
    file.next = 0.0
    file({"a": 0.3})
    file({"a": 0.4})
    assert under_way(tmp_path, {"a"}) == 0.4


def test_what_cannot_be_written_or_read_stops_nothing(tmp_path: Path) -> None:
    file = StepFile(tmp_path / "gone" / "lot-1.safetensors")
    file({"a": 0.1})
    file.remove()
    for name, text in (("x", "{"), ("y", "[1]"), ("z", '{"a": null}'), ("q", '{"a": 0.5}')):
        (tmp_path / f"{name}.steps.json").write_text(text)
    assert under_way(tmp_path, {"a"}) == 0.5 and under_way(tmp_path / "gone", {"a"}) == 0
