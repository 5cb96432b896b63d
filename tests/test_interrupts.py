"""What ends a command from outside ends it within seconds, in one line and by one code, whatever its main thread does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fairsynth

# Fault case 53: a second signal, and one that comes while nothing listens.
HERE = str(Path(fairsynth.__file__).parents[1])
LINE = "fairsynth: interrupted; finished work is kept, the same command goes on\n"
# For a machine so busy that signals sent one after the other come apart.
SLOW = "from fairsynth import interrupts; interrupts._AT_ONCE = 2.0\n"
PROGRAM = """
import os, signal, sys, time
from fairsynth import console, interrupts
from fairsynth.errors import InfrastructureError

interrupts.GRACE = float(sys.argv[2])
interrupts.before_a_hard_end(lambda why: print("last word", type(why).__name__, flush=True))
interrupts.before_the_end(lambda: print("last deed", flush=True))

def waits():
    print("ready", flush=True)
    time.sleep(60)

def swallows():
    word = "ready"
    while True:
        try:
            print(word, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            word = "swallowed"

def cleans():
    try:
        waits()
    finally:
        print("cleans", flush=True)
        time.sleep(1)
        print("clean", flush=True)

def loses():
    import threading
    print("ready", flush=True)
    threading.Timer(1, interrupts.stop, [InfrastructureError("it is gone")]).start()
    time.sleep(60)

def work():
    globals()[sys.argv[1]]()
    return 0

interrupts.catch()
console.leave(console.guarded(work))
"""


def begun(what: str, grace: float = 30, before: str = "") -> subprocess.Popen[str]:
    """The program in a process of its own, at work; ``before``: a line of Python that comes first."""
    process = subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM, what, str(grace)],
        env=os.environ | {"PYTHONPATH": HERE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts(number: signal.Signals) -> None:
    process = begun("waits")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "last deed\n", LINE)


def test_who_does_not_leave_is_ended_within_seconds() -> None:
    process = begun("swallows", grace=0.5)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, LINE)
    assert out == "swallowed\nlast word KeyboardInterrupt\nlast deed\n"


def test_a_second_signal_ends_at_once() -> None:
    process = begun("swallows")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "swallowed\n"
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, LINE) and time.monotonic() - began < 10


def test_signals_at_once_are_one() -> None:
    """As from ``timeout``, which tells the process, and then its group."""
    process = begun("swallows", grace=3, before=SLOW)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, LINE) and time.monotonic() - began > 2


@pytest.mark.parametrize("pause", [False, True])
def test_a_signal_just_after_the_first_leaves_cleaning_up_alone(pause: bool) -> None:
    process = begun("cleans", before=SLOW)
    process.send_signal(signal.SIGINT)
    if pause:
        assert process.stdout is not None and process.stdout.readline() == "cleans\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out.removeprefix("cleans\n"), err) == (130, "clean\nlast deed\n", LINE)


def test_an_ignored_signal_stays_ignored() -> None:
    process = begun("waits", before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_what_is_lost_ends_the_command_by_its_own_line_and_code() -> None:
    process = begun("loses")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (5, "last deed\n", "fairsynth: it is gone\n")


def test_a_signal_while_modules_are_imported_is_an_interruption(tmp_path: Path) -> None:
    # The first module that the command line imports after its own beginning.
    (tmp_path / "cyclopts.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(30)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "fairsynth.cli", "run"], env=os.environ | {"PYTHONPATH": f"{tmp_path}:{HERE}"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, LINE)


def test_other_programs_keep_their_signals() -> None:
    code = "import signal; before = signal.getsignal(signal.SIGTERM); import fairsynth.cli; print(signal.getsignal(signal.SIGTERM) == before)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": HERE}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr
