"""The command line: its commands, and the process around them. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from fairsynth import interrupts  # isort: split

from cyclopts import App

from fairsynth.commands.completion.command import completion_command
from fairsynth.commands.misspelt import misspelt_option
from fairsynth.commands.table import COMMANDS, STAGES, stage_command
from fairsynth.console import in_utf8_mode, interrupted, leave, misused, prepare_streams, unwritable
from fairsynth.version import __version__

_HELP = """From a biased image dataset to a fair classifier and the balanced data behind it.

Any setting can be given as --section.key VALUE, for example --data.root DIR or --cluster.k 5.
Precedence: command line > CONFIG.yaml > --preset > default. The same command resumes a run.
Exit codes: 0 ok, 1 internal error, 2 config or usage, 3 data refused, 4 budget reached, 5 infrastructure, 6 output in use, 130 interrupted.
"""

app = App(name="fairsynth", help=_HELP, version=__version__, result_action="return_value")
for _command in COMMANDS:
    app.command(_command)
app.command(completion_command(app), name="completion")
for _stage in STAGES:
    app.command(stage_command(_stage), name=_stage, group="One stage alone; the earlier ones must be finished")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    from cyclopts import CycloptsError

    prepare_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if problem := misspelt_option(app, words):
            return misused(problem)
        result = app(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        which = (
            f"'fairsynth {words[0]} --help' lists its options"
            if words[0] in app
            else "'fairsynth --help' lists the commands"
        )
        text = " ".join(str(error).split())
        return misused(f"{text if text.endswith('...') else text.removesuffix('.')}; {which}")
    except OSError as error:  # while the help is printed; those of commands are told before
        return unwritable(error)
    return result if isinstance(result, int) else 0


def script(argv: Sequence[str] | None = None) -> NoReturn:
    """The console command: ``main`` and the end of the process."""
    in_utf8_mode()
    try:
        interrupts.catch()
        code = main(argv)
    except KeyboardInterrupt:  # before a command began, or behind it
        code = interrupted()
    leave(code)


if __name__ == "__main__":
    script()
