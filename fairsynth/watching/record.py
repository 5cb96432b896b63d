"""``OUT/progress.json``: how far the run is, for people at another shell or machine. No run reads it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairsynth.run_folder.files import open_file, read_text
from fairsynth.store.held import followed
from fairsynth.watching.redaction import redacted

NAME = "progress.json"


def write(root: Path, content: Mapping[str, Any]) -> None:
    """Replace the record, by one rename; what cannot be written is left out: a full disk ends no run."""
    temporary = root / f".{NAME}.new"
    with suppress(Exception):
        temporary.unlink(missing_ok=True)  # it may be a link
        with open(open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="utf-8") as handle:
            handle.write(json.dumps(content, indent=1))
        os.replace(temporary, root / NAME)
        followed(root)


def read(root: Path) -> dict[str, Any] | None:
    """The record; None if there is none that can be read."""
    try:
        content = json.loads(read_text(root / NAME))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and _sound(content) else None


def _sound(content: dict[str, Any]) -> bool:
    """Whether the parts that others look into are what they should be."""
    stages = content.get("stages", {})
    parts = [content.get(name) for name in ("cell", "now", "failures", "ended")]
    return (
        isinstance(stages, dict)
        and all(isinstance(facts, dict) and "state" in facts for facts in stages.values())
        and all(isinstance(part, dict | None) for part in parts)
    )


def pieces(done: float) -> str:
    """A number of finished units for people; of units under way it has the first decimal."""
    return f"{done:.0f}" if done == int(done) else f"{int(done * 10) / 10:.1f}"


def command_line() -> str:
    """The command that this process is, as one would type it, without secrets; empty if it is none of ours."""
    program, words = Path(sys.argv[0]), sys.argv[1:]
    if program.parent.name == "jobs":
        start = ["python", "-m", f"jobs.{program.stem}"]
    elif program.name == "fairsynth" or program.parts[-2:] == ("fairsynth", "cli.py"):
        start = ["fairsynth"]
    else:
        return ""
    return redacted(shlex.join([*start, *words]))


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours too, for a bar."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
