"""Whatever the terminal can show and whatever becomes of it, a command ends by its work: by the data, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairsynth import console
from fairsynth.console import complain, in_utf8_mode, say
from fairsynth.errors import DamagedError, InfrastructureError
from tests.support.data.dataset_files import SPLITS, image, put
from tests.support.datasets import write_rows

FULL = Path("/dev/full")
NOT_UTF_8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "no UTF-8 at all": NOT_UTF_8,
}


def call(*words: str | Path, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own; its output as bytes."""
    return subprocess.run(
        [sys.executable, "-m", "fairsynth.cli", *map(str, words)],
        env=os.environ | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels that are the names of folders, one that Latin-1 has and one that it has not."""
    root = tmp_path_factory.mktemp("data") / "Tiere ä"
    places = [(s, y, a, n) for s in SPLITS for y in ("Büffel", "猫") for a in ("in", "out") for n in range(2)]
    for number, (split, label, attribute, n) in enumerate(places):
        put(root / split / label / attribute / f"ß{n}.png", image(number, "PNG"))
    return root


@pytest.mark.parametrize("terminal", TERMINALS)
def test_labels_that_the_terminal_cannot_show_are_escaped(terminal: str, animals: Path) -> None:
    done = call("inspect", animals, **TERMINALS[terminal])
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    lines = done.stdout.splitlines()
    buffalo = b"B\xfcffel" if terminal == "latin-1" else rb"B\xfcffel"
    assert any(line.startswith(buffalo + b", in ") for line in lines)
    assert any(line.startswith(rb"\u732b, out ") for line in lines)
    assert lines[1] == b"images: 24 = 24 usable + 0 quarantined + 0 left out"


@pytest.mark.parametrize("terminal", TERMINALS)
def test_so_are_those_in_an_error(terminal: str, tmp_path: Path) -> None:
    rows = [(f"{split}{i}.png", "猫" if split == "test" else "d", "x", split) for split in SPLITS for i in range(2)]
    write_rows(tmp_path / "data" / "metadata.csv", ("file_name", "label", "attribute", "split"), rows)
    words = ("run", "--preset", "demo", "--data.format", "folder", "--data.root", tmp_path / "data")
    done = call(*words, "--out", tmp_path / "out", **TERMINALS[terminal])
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.count(b"\n") == 1 and rb"'\u732b'" in done.stderr


def test_help_needs_no_utf_8() -> None:
    done = call("inspect", "--help", **NOT_UTF_8)
    assert done.returncode == 0 and b"--json" in done.stdout and done.stdout.isascii()


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("words", [("inspect", "DATA"), ("--help",)], ids=["a command", "the help"])
def test_an_output_that_cannot_be_written_is_no_internal_error(words: tuple[str, ...], animals: Path) -> None:
    with FULL.open("wb") as full:
        done = call(*(str(animals) if word == "DATA" else word for word in words), stdout=full.fileno())
    assert done.returncode == 5
    assert done.stderr == b"fairsynth: the output cannot be written: No space left on device\n"


def test_nor_is_one_that_nobody_reads(animals: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = call("inspect", animals, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (5, b"fairsynth: the output cannot be written: Broken pipe\n")


@pytest.mark.parametrize("stream", [1, 2])
def test_a_closed_stream_is_no_reason_to_fail(stream: int, animals: Path) -> None:
    script = f"exec {stream}>&-; exec {sys.executable} -m fairsynth.cli inspect '{animals}'"
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0
    assert (done.stdout == b"") == (stream == 1) and done.stderr == b""


def test_what_is_printed_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\x1b[2J\ntwo\r\u202e")
    complain("bad\x07 news\nhere")
    assert capsys.readouterr() == ("one?[2J\ntwo??\n", "fairsynth: bad? news?here\n")


def test_an_output_without_a_file_behind_it_may_fail_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _: str) -> None:
            raise OSError

        def flush(self) -> None:
            """Nothing is kept."""

        def fileno(self) -> int:
            raise OSError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(InfrastructureError, match="cannot be written"):
        say("x")


def test_the_process_begins_anew_only_where_file_names_are_not_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(console.os, "execv", lambda _, words: begun.append(words))
    monkeypatch.setattr(console.os, "environ", {})
    in_utf8_mode()
    assert begun == []
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "jobs.embed", "my.yaml"])
    in_utf8_mode()
    assert begun == [[sys.executable, "-m", "jobs.embed", "my.yaml"]] and console.os.environ["PYTHONUTF8"] == "1"
    in_utf8_mode()  # an option of Python itself may be stronger than the environment: once is enough
    assert len(begun) == 1


def test_a_complaint_has_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    complain("cannot read s3://AKIA1:hunter22@bucket/images: no such bucket")
    assert capsys.readouterr().err == "fairsynth: cannot read s3://***@bucket/images: no such bucket\n"


def test_damage_is_told_with_what_mends_it(capsys: pytest.CaptureFixture[str]) -> None:
    def work(error: DamagedError) -> int:
        raise error

    found = DamagedError.of("embed-1/units/lot-1", "t.parquet")
    assert console.guarded(lambda: work(found)) == 5
    assert capsys.readouterr().err == f"fairsynth: {found}; run the run's command again, which makes it anew\n"
    assert console.guarded(lambda: work(DamagedError("damaged: x: y; give the same command again"))) == 5
    assert capsys.readouterr().err == "fairsynth: damaged: x: y; give the same command again\n"
