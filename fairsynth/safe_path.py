"""``python -m fairsynth.cli`` imports from the current folder first: a dataset with a ``pandas.py`` in it would run as code.

This module takes that folder away, unless fairsynth itself lies there. It is imported before all others and imports
nothing that is not loaded already.
"""

from __future__ import annotations

import os
import sys


def drop_current_folder() -> None:
    """Import nothing from the current folder: Python looks there after ``-m``, and for an empty entry of PYTHONPATH."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    by_module = spec is not None and spec.name == "fairsynth.cli" and not sys.flags.safe_path
    by_path = "" in os.environ.get("PYTHONPATH", "x").split(os.pathsep) and not sys.flags.ignore_environment
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        return
    own = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if os.path.realpath(here) != own:
        for _ in range(by_module + by_path):
            if here in sys.path:
                sys.path.remove(here)


def _is_a_commands() -> bool:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return spec.name == "fairsynth.cli" if spec is not None else os.path.basename(sys.argv[0]) == "fairsynth"


if _is_a_commands():
    drop_current_folder()
