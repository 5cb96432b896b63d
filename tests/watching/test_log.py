"""The log of an output folder holds what was printed, to the last line, whatever becomes of the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fairsynth.console import complain, guarded, say
from fairsynth.errors import DataError
from fairsynth.watching import log
from fairsynth.watching.log import FAILURES, FOLDER, LOG, enter, failure, logged

KILLED = """
import os, signal, sys
from pathlib import Path
from fairsynth.console import say
from fairsynth.watching.log import logged
with logged(Path(sys.argv[1])):
    for number in range(200):
        say(f"line {number}")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def texts(root: Path, kind: str = log.SAID) -> list[str]:
    return [line["text"] for line in log.read(root) if line["kind"] == kind]


def test_a_command_is_kept_from_its_beginning_to_its_last_complaint(tmp_path: Path) -> None:
    def work() -> int:
        with logged(tmp_path, "fairsynth run --preset demo"):
            enter("ingest")
            say("two\nlines")
            raise DataError("no images")

    assert guarded(work) == 3
    say("somebody else's")
    complain("nobody's")
    kinds = [(line["kind"], line["stage"], line["text"]) for line in log.read(tmp_path)]
    assert kinds == [
        ("began", "", "fairsynth run --preset demo"),
        ("said", "ingest", "two\nlines"),
        ("ended", "ingest", "failed: DataError: no images"),
        ("complained", "ingest", "no images"),
    ]
    assert "raise DataError" in log.read(tmp_path)[2]["trace"]


def test_it_outlives_kill_9_to_the_last_line_and_a_second_run_goes_on_behind_it(tmp_path: Path) -> None:
    for _ in range(2):
        child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.DEVNULL, check=False)
        assert child.returncode == -signal.SIGKILL
    assert texts(tmp_path) == [f"line {number}" for number in range(200)] * 2


def test_a_line_that_was_cut_short_costs_that_line_alone(tmp_path: Path) -> None:
    with logged(tmp_path):
        say("before")
    with open(tmp_path / FOLDER / LOG, "ab") as file:
        file.write(b'{"at": 1, "kind": "sa')
    with logged(tmp_path):
        say("after")
    assert texts(tmp_path) == ["before", "after"]


def test_lines_that_are_no_lines_of_ours_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / LOG).write_bytes(b'[]\n5\n{"at": "x"}\n\xff\xfe\n{"at": 2, "kind": "said", "text": "good"}\n')
    assert texts(tmp_path) == ["good"]


def test_hostile_text_is_kept_as_one_line_of_ascii(tmp_path: Path) -> None:
    hostile = 'a\x1b[2J\u202e\udcff"\n{"at": 0}'
    with logged(tmp_path):
        log.note(log.SAID, hostile)
    raw = (tmp_path / FOLDER / LOG).read_bytes()
    assert raw.isascii() and raw.count(b"\n") == 3 and b"\x1b" not in raw
    assert texts(tmp_path) == [hostile]


def test_secrets_do_not_get_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame/open+42")
    with logged(tmp_path, "fairsynth run --data.root https://me:pw123@host/x"):
        say("reading with sesame/open+42")
        log.failed("ingest", "u1", "no answer from https://h/?token=abc", "Traceback: sesame/open+42")
    whole = b"".join((tmp_path / FOLDER / name).read_bytes() for name in (LOG, FAILURES))
    assert b"sesame" not in whole and b"pw123" not in whole and b"token=abc" not in whole


def test_other_processes_add_failures_and_all_come_in_order_of_time(tmp_path: Path) -> None:
    with logged(tmp_path):
        say("first")
        failure(tmp_path, "finetune", "lot-1", "worker 0: gone", "trace", again=True)
        say("last")
    found = [(line["kind"], line["text"]) for line in log.read(tmp_path)]
    assert found == [
        ("began", ""),
        ("said", "first"),
        ("failed", "worker 0: gone"),
        ("said", "last"),
        ("ended", "finished"),
    ]


def test_what_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with logged(tmp_path / "file"):
        say("goes on")
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / LOG).symlink_to("/dev/full")
    with logged(tmp_path):
        say("goes on")
    assert log.read(tmp_path / "file") == []


def test_nothing_of_the_environment_is_in_it(tmp_path: Path) -> None:
    with logged(tmp_path):
        say("x")
    lines = [json.loads(line) for line in (tmp_path / FOLDER / LOG).read_text("utf-8").splitlines()]
    assert {key for line in lines for key in line} == {"at", "host", "pid", "stage", "kind", "text", "how"}
    assert all(line["pid"] == os.getpid() for line in lines)


# Fault case 67: floods of text.
def test_the_cut_of_a_long_text_leaves_no_part_of_a_secret(tmp_path: Path) -> None:
    for place in (9_980, 9_995, 40_000 - 9_995):
        text = "é " * (place // 2) + "password=abcdefghijklmnop" + " é" * 20_000
        failure(tmp_path, "tune", "lot-1", text[:40_000] if place > 20_000 else text)
    for line in log.read(tmp_path):
        assert len(line["text"]) <= 20_010 and "abc" not in line["text"] and "mnop" not in line["text"]
