"""fairsynth logs: what was printed with time and stage; failures alone with their traces; hostile text stays text."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fairsynth.console import say
from fairsynth.watching.log import enter, failed, failure, logged
from tests.support.calling import call

WHEN = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def printed(*words: str | Path) -> list[str]:
    code, out, err = call("logs", *words)
    assert (code, err) == (0, "")
    return out.splitlines()


def test_lines_have_time_and_stage_and_those_of_several_runs_follow_each_other(tmp_path: Path) -> None:
    for number in (1, 2):
        with logged(tmp_path, f"fairsynth run --seed {number}"):
            enter("embed")
            say(f"embed      {number} images (3.0 s)")
            say("two\nlines")
    lines = printed(tmp_path)
    assert [re.sub(WHEN, "WHEN", re.sub(r"process \d+ on [^ :]+", "WHO", line)) for line in lines[:5]] == [
        "WHEN             began, WHO: fairsynth run --seed 1",
        "WHEN  embed      1 images (3.0 s)",
        "WHEN  embed      two",
        f"{'':<33}lines",
        "WHEN             ended: finished",
    ]
    assert len(lines) == 10 and "--seed 2" in lines[5]


def test_failures_are_told_by_stage_and_unit_with_their_traces(tmp_path: Path) -> None:
    with logged(tmp_path):
        say("all is well")
        failure(tmp_path, "finetune", "lot-1", "worker 0: the node died", "Traceback\n  line 1", again=True)
        failed("finetune", "low--0", "loss nan at step 5")
    lines = printed(tmp_path, "--failed")
    assert [re.sub(WHEN, "WHEN", line) for line in lines] == [
        "WHEN  finetune   failed, tried again: lot-1: worker 0: the node died",
        f"{'':<33}Traceback",
        f"{'':<33}  line 1",
        "WHEN  finetune   failed: low--0: loss nan at step 5",
    ]
    everything = printed(tmp_path)
    assert any("all is well" in line for line in everything) and not any("Traceback" in line for line in everything)


def test_where_nothing_failed_it_says_so(tmp_path: Path) -> None:
    with logged(tmp_path):
        say("all is well")
    assert printed(tmp_path, "--failed") == ["nothing has failed"]


def test_hostile_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    with logged(tmp_path):
        enter("ingest")
        failed("in\x1bgest", "unit\x1b[2J", "bad \u202e name\r\x07", "File 'x\x1b]0;y'")
    out = "\n".join(printed(tmp_path, "--failed"))
    assert out.isprintable() or {c for c in out if not c.isprintable()} == {"\n"}
    assert "unit?[2J" in out


FOLLOWED = """
import sys, time
from pathlib import Path
from fairsynth.console import say
from fairsynth.lock import locked
from fairsynth.watching.log import logged
root = Path(sys.argv[1])
with locked(root), logged(root):
    say("first")
    print("ready", flush=True)
    sys.stdin.readline()
    say("second")
"""


def test_it_follows_a_run_to_its_end(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", FOLLOWED, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout and run.stdin and run.stdout.readline() == "first\n"
    assert run.stdout.readline() == "ready\n"
    program = "import sys; from fairsynth.cli import main; sys.exit(main(['logs', sys.argv[1], '--follow']))"
    follower = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert follower.stdout
    seen = [follower.stdout.readline() for _ in range(2)]
    assert "first" in seen[1] and follower.poll() is None
    run.communicate("go on\n", timeout=30)
    rest, _ = follower.communicate(timeout=30)
    assert "second" in rest and "ended: finished" in rest and follower.returncode == 0
