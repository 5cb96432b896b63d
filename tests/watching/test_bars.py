"""At a terminal there is a line at the end for the stage that runs; nothing that is printed is torn, and it goes without a trace."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
BUSY = """
import os, sys, time
from pathlib import Path
from fairsynth.console import complain, guarded, say
from fairsynth.engine.progress import watched
from fairsynth.errors import DataError

def work():
    with watched(Path(sys.argv[1])) as progress:
        with progress.stage("finetune"), progress.work("finetune", 25, 0, 1) as at:
            for number in range(20):
                at.tick()
                say(f"said {number}, to the end")
                print(f"library {number}, to the end", file=sys.stderr)
                time.sleep(0.06)
            if sys.argv[2] == "error":
                raise DataError("the data are gone")
            if sys.argv[2] == "interrupt":
                print("READY", flush=True)
                time.sleep(60)
        say("the stage is done")
    return 0

sys.exit(guarded(work))
"""
LINES = [line for n in range(20) for line in (f"said {n}, to the end", f"library {n}, to the end")]


class Screen:
    """What stands on a terminal of many lines after all that was written to it, as far as it can be scrolled back."""

    def __init__(self, written: str) -> None:
        self.lines, self.row, self.column, self.cursor = [""], 0, 0, True
        for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|[\r\n])", written):
            self._put(part)

    def _put(self, part: str) -> None:
        code = re.fullmatch(r"\x1b\[([0-9;?]*)([A-Za-z])", part)
        if part == "\r":
            self.column = 0
        elif part == "\n":
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif code and code[2] == "A":
            self.row -= int(code[1] or 1)
        elif code and code[2] == "K":
            self.lines[self.row] = "" if code[1] == "2" else self.lines[self.row][: self.column]
        elif code and code[1] == "?25":
            self.cursor = code[2] == "h"
        elif not code:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
            self.column += len(part)


def at_a_terminal(folder: Path, how: str, **environment: str) -> tuple[int, str]:
    """Exit code of the busy program at a terminal, and what it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(folder), how],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    written, stopped = b"", False
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        written += some
        if b"READY" in written and not stopped:
            stopped = True
            time.sleep(0.5)  # the line that says so is being printed
            process.send_signal(signal.SIGINT)
        if not some:
            break
    os.close(ours)
    return process.wait(30), written.decode("utf-8")


@pytest.mark.parametrize(
    ("how", "code", "last"),
    [
        ("well", 0, ["the stage is done"]),
        ("error", 3, ["fairsynth: the data are gone"]),
        ("interrupt", 130, ["READY", "fairsynth: interrupted; finished work is kept, the same command goes on"]),
    ],
)
def test_what_is_printed_is_whole_and_the_line_is_gone_at_the_end(
    tmp_path: Path, how: str, code: int, last: list[str]
) -> None:
    found, written = at_a_terminal(tmp_path, how)
    screen = Screen(written)
    assert found == code
    assert [line.rstrip() for line in screen.lines if line.strip()] == [*LINES, *last]
    assert screen.cursor and re.search(r"finetune.*\d+/25", written), "there was a line"


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}])
def test_poor_terminals_get_what_they_can_show(tmp_path: Path, environment: dict[str, str]) -> None:
    code, written = at_a_terminal(tmp_path, "well", **environment)
    assert code == 0 and written.isascii()
    assert [line.rstrip() for line in Screen(written).lines if line.strip()] == [*LINES, "the stage is done"]
    assert ("\x1b[" in written) == ("TERM" not in environment)


def test_a_file_gets_no_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUSY, str(tmp_path), "well"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr
    assert done.stdout.splitlines() == [*(line for line in LINES if "said" in line), "the stage is done"]
    assert done.stderr.splitlines() == [line for line in LINES if "library" in line]
