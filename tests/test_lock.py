"""One run per output folder, whatever becomes of the runs before."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairsynth.errors import ConfigError, OutputLockedError
from fairsynth.lock import check_free, check_writable, locked, reading

HOLD = """
import sys
from pathlib import Path
from fairsynth.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of ``tmp_path / out`` until it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


# Fault case 58: two runs in one folder.
def test_the_second_run_is_told_who_holds_the_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(OutputLockedError) as caught, locked(tmp_path / "out"):
        pytest.fail("two runs in one folder")
    assert caught.value.exit_code == 6
    assert re.search(
        rf"{re.escape(str(tmp_path / 'out'))} is in use by process {holder.pid} on \S+ \(for \d+ s\)", str(caught.value)
    )
    assert "--out" in str(caught.value)


def test_a_refused_run_does_not_take_the_owners_name_away(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    for _ in range(3):
        with pytest.raises(OutputLockedError, match=f"process {holder.pid} "), locked(tmp_path / "out"):
            pass


def test_the_folder_is_free_after_the_owner_ended(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.communicate("end\n", timeout=30)
    assert holder.returncode == 0
    with locked(tmp_path / "out"):
        pass


# Fault case 59: a lock whose owner is gone.
def test_the_folder_is_free_after_the_owner_was_killed(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(30)
    with (
        locked(tmp_path / "out"),
        pytest.raises(OutputLockedError, match=f"process {os.getpid()} "),
        locked(tmp_path / "out"),
    ):
        pass


def test_an_error_inside_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_different_folders_do_not_meet(tmp_path: Path) -> None:
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        assert (tmp_path / "a").is_dir() and (tmp_path / "b").is_dir()


# Fault case 68: odd and read-only output folders.
def test_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"cannot write to the output folder .*--out"),
        locked(tmp_path / "file" / "out"),
    ):
        pass


def test_a_folder_that_is_read_is_closed_to_runs_and_open_to_others_who_read(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    with (
        reading(tmp_path),
        reading(tmp_path),
        pytest.raises(OutputLockedError, match="in use by another run or an export"),
        locked(tmp_path),
    ):
        pytest.fail("a run where somebody reads")
    with locked(tmp_path):
        pass


def test_a_folder_in_which_a_run_works_cannot_be_read(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(OutputLockedError, match=f"in use by process {holder.pid} on"), reading(tmp_path / "out"):
        pytest.fail("read what a run is writing")


def test_reading_writes_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with reading(folder):
            assert not list(tmp_path.iterdir())
    with locked(tmp_path):
        pass
    (tmp_path / ".lock").chmod(0o400)
    with reading(tmp_path):
        assert (tmp_path / ".lock").read_bytes() == b""


def test_the_name_of_a_run_that_was_killed_is_nobodys(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    for name in (
        {"pid": child.pid, "host": socket.gethostname(), "since": 0},
        5,
        [],
        {"pid": "x", "host": 1, "since": None},
    ):
        (tmp_path / ".lock").write_text(json.dumps(name), "utf-8")
        with (
            reading(tmp_path),
            pytest.raises(OutputLockedError, match="in use by another run or an export"),
            locked(tmp_path),
        ):
            pass


def test_a_disk_without_locks_can_be_read_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lock").write_text("", "utf-8")

    def flock(handle: object, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with reading(tmp_path):
        pass
    with (
        pytest.raises(ConfigError, match=r"cannot be locked: No locks available; choose a disk with file locks"),
        locked(tmp_path),
    ):
        pass


def test_whoever_reads_is_not_told_to_choose_another_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(OutputLockedError, match=r"; wait for it$"), reading(tmp_path / "out"):
        """Not reached."""


def test_a_folder_that_no_run_could_write_is_found_without_writing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for root in (Path("/proc/x"), tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError) as found:
            check_writable(root)
        with pytest.raises(ConfigError, match=r"cannot write to the output folder .*--out"), locked(root):
            """Not reached."""
        assert f"cannot write to the output folder {root}: " in str(found.value)
    check_writable(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_use_is_found_without_writing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(OutputLockedError, match=f"process {holder.pid} on .* or choose another with --out"):
        check_free(tmp_path / "out")
    check_free(tmp_path / "new")
    assert not (tmp_path / "new").exists()
