"""Before a long run a person at a terminal is asked; a script never is."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairsynth.commands.plan.ask import agreed
from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError
from fairsynth.lock import locked
from tests.support.data.planning import environment, in_process, set_traps

IN_USE = 6


def at_terminal(words: list[str], traps: Path, answer: bytes | None = None) -> tuple[int, str]:
    """Exit code and output of a command at a terminal of 80 columns; ``answer`` is typed once it asks."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fairsynth.cli", *words], stdin=slave, stdout=slave, stderr=slave, env=environment(traps),
        close_fds=True, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown, typed, end = b"", answer is None, time.monotonic() + 120
    while time.monotonic() < end:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
        if not typed and b"[y/N]" in shown:
            typed = True
            os.write(master, answer or b"")
            if answer == b"":
                os.killpg(process.pid, signal.SIGINT)
    code = process.wait(30)
    os.close(master)
    return code, shown.decode()


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    return set_traps(tmp_path / "traps")


@pytest.mark.slow  # processes at a terminal of their own
def test_no_is_the_default(tmp_path: Path, traps: Path) -> None:
    out = tmp_path / "out"
    for answer in (b"\n", b"\x04"):
        code, shown = at_terminal(["run", "--preset", "demo", "--out", str(out)], traps, answer)
        assert code == 0 and "nothing was done" in shown, shown
        assert "synthesize" in shown and "--confirm-above 5 minutes" in shown
    assert not out.exists()


@pytest.mark.slow  # processes at a terminal of their own
def test_an_interrupt_ends_it(tmp_path: Path, traps: Path) -> None:
    code, _ = at_terminal(["run", "--preset", "demo", "--out", str(tmp_path / "out")], traps, b"")
    assert code == 130 and not (tmp_path / "out").exists()


@pytest.mark.slow  # processes at a terminal of their own
def test_who_agrees_or_need_not_be_asked_goes_on(tmp_path: Path, traps: Path) -> None:
    """The output folder is in use, which ends a run that goes on, and one that would ask; or it has no place for a lock."""
    words = ["run", "--preset", "demo", "--out", str(tmp_path / "out")]
    (tmp_path / "out" / ".lock").mkdir(parents=True)
    code, shown = at_terminal(words, traps, b"y\n")
    assert code == ConfigError.exit_code and "go on?" in shown and "cannot write to the output folder" in shown
    (tmp_path / "out" / ".lock").rmdir()
    with locked(tmp_path / "out"):
        for more in ([], ["--yes"], ["--confirm-above", "600"]):
            code, shown = at_terminal([*words, *more], traps)
            assert code == IN_USE and "go on?" not in shown
        assert in_process(*words, traps=traps).returncode == IN_USE


def test_a_script_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert agreed(load_config(None, "demo", {}), tmp_path, None, 0.0, None)
