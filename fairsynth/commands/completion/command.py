"""The command completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from cyclopts import App

from fairsynth.console import guarded, say

Shell = Literal["bash", "zsh", "fish"]
_HELP = """Print a script that completes commands, options, settings and presets in a shell.

Save it where the shell looks for such scripts: bash in ~/.local/share/bash-completion/completions/fairsynth, zsh in a
file _fairsynth of a folder of $fpath, fish in ~/.config/fish/completions/fairsynth.fish. Print it anew after an update.

Parameters
----------
shell
    bash, zsh or fish.
"""


def completion_command(app: App) -> Callable[..., int]:
    """The command that writes a script for the commands of this app."""

    def completion(shell: Shell, /) -> int:
        return guarded(lambda: _completion(app, shell))

    completion.__doc__ = _HELP
    return completion


def _completion(app: App, shell: Shell) -> int:
    from fairsynth.commands.completion.script import script

    say(script(app, shell).replace("\t", "    "))
    return 0
