"""The record of a run's progress is old or new, never half, and never in the way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fairsynth.watching import record


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    for number in (1, 2):
        record.write(tmp_path, {"number": number})
        assert record.read(tmp_path) == {"number": number}
    assert [path.name for path in tmp_path.iterdir()] == [record.NAME]


def test_what_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    record.write(tmp_path, {"number": 1})
    record.write(tmp_path, {"number": object()})
    assert record.read(tmp_path) == {"number": 1}
    (tmp_path / f".{record.NAME}.new").unlink(missing_ok=True)
    (tmp_path / f".{record.NAME}.new").mkdir()
    record.write(tmp_path, {"number": 2})
    assert record.read(tmp_path) == {"number": 1}
    record.write(tmp_path / "missing", {"number": 1})
    assert not (tmp_path / "missing").exists()


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("mine")
    (tmp_path / f".{record.NAME}.new").symlink_to(theirs)
    record.write(tmp_path, {"number": 1})
    assert record.read(tmp_path) == {"number": 1} and theirs.read_text() == "mine"


def test_what_is_no_record_is_none(tmp_path: Path) -> None:
    assert record.read(tmp_path) is None
    for text in ("", "{", "[1]", "\x00"):
        (tmp_path / record.NAME).write_text(text)
        assert record.read(tmp_path) is None


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["/x/bin/fairsynth", "run", "--out", "a b"], "fairsynth run --out 'a b'"),
        (["/x/fairsynth/cli.py", "run"], "fairsynth run"),
        (["/x/jobs/pipeline.py", "--preset", "demo"], "python -m jobs.pipeline --preset demo"),
        (["/x/bin/fairsynth", "run", "--data.root", "s3://k:s@b/x"], "fairsynth run --data.root s3://***@b/x"),
        (["/x/ipykernel_launcher.py", "-f", "k.json"], ""),
    ],
)
def test_the_command_to_go_on_is_what_was_typed(monkeypatch: pytest.MonkeyPatch, argv: list[str], line: str) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert record.command_line() == line
