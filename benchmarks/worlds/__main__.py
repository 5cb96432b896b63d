"""Write worlds: ``python -m benchmarks.worlds --out FOLDER [--seed N] [--size SHARE] [NAMES...]``; without names, all.

``FOLDER/bench.yaml`` names all of them for ``fairsynth bench FOLDER/bench.yaml --preset demo``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.worlds.worlds import WORLDS
from benchmarks.worlds.write import write
from fairsynth.console import prepare_streams


def main(arguments: Sequence[str] | None = None) -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worlds", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAMES", help=f"of {', '.join(WORLDS)}")
    parser.add_argument("--out", type=Path, required=True, help="folder for the worlds, one folder in it for each")
    parser.add_argument("--seed", type=int, default=0, help="another seed redraws everything")
    parser.add_argument(
        "--size", type=float, default=1.0, help="share of the images of each group, in (0, 1]; at least one is drawn"
    )
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.size <= 1:
        parser.error(f"--size is {chosen.size:g}; it must be above 0 and at most 1")
    if unknown := [name for name in chosen.names if name not in WORLDS]:
        parser.error(f"no world is named {', '.join(unknown)}; the worlds are {', '.join(WORLDS)}")
    names = chosen.names or list(WORLDS)
    for name in names:
        try:
            print(write(chosen.out / name, WORLDS[name], chosen.seed, chosen.size))
        except FileExistsError as error:
            parser.error(str(error))
    # JSON is YAML, too.
    content = json.dumps({"bench": {"datasets": {name: settings(chosen.out, name) for name in names}}}, indent=2)
    (chosen.out / "bench.yaml").write_text(content + "\n", "utf-8")
    print(chosen.out / "bench.yaml")


def settings(folder: Path, name: str) -> dict[str, Any]:
    """The settings of a world for ``bench.datasets``: where it lies, and prompts that fit."""
    names = (argument.removeprefix("--") for argument in WORLDS[name].arguments[::2])
    prompts = dict(zip(names, WORLDS[name].arguments[1::2], strict=True))
    return {"data.root": str((folder / name).resolve()), "data.format": "folder", **prompts}


if __name__ == "__main__":
    main()
