"""Runs a manifest's shell commands as a node would, with ``fairsynth`` replaced by a command that says how it was called."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.deploy.files import FOLDER

# Where the image has it, and where this checkout has it.
IN_IMAGE = "/home/ray/fairsynth/deploy/job.sh"
_SAYS = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("RAY_ADDRESS")]) + "\\n")
kind = "look" if "--dry-run" in sys.argv else sys.argv[1]
sys.exit(int(os.environ.get("CODE_" + kind, "0")))
"""


class Tried(NamedTuple):
    """How a script ended, and each call of ``fairsynth`` in it: its words, and the RAY_ADDRESS that it saw."""

    code: int
    calls: list[tuple[list[str], str | None]]
    text: str


def tried(
    script: str,
    folder: Path,
    arguments: Sequence[str] = (),
    codes: Mapping[str, int] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Tried:
    """Run ``script`` with bash. ``codes``: exit codes of ``look`` (the dry run), ``inspect`` and ``run``."""
    program = folder / "bin" / "fairsynth"
    program.parent.mkdir(exist_ok=True)
    program.write_text(_SAYS, "utf-8")
    program.chmod(0o755)
    calls = folder / "calls"
    calls.write_text("", "utf-8")
    environment = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "CALLS": str(calls),
        **{f"CODE_{kind}": str(code) for kind, code in (codes or {}).items()},
        **(variables or {}),
    }
    text = script.replace(IN_IMAGE, str(FOLDER / "job.sh"))
    done = subprocess.run(
        ["bash", "-c", text, "bash", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [json.loads(line) for line in calls.read_text("utf-8").splitlines()]
    return Tried(done.returncode, [(words, address) for words, address in said], done.stdout + done.stderr)
