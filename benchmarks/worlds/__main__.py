"""Write worlds: ``python -m benchmarks.worlds --out FOLDER [--seed N] [--size SHARE] [NAMES...]``; without names, all."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.worlds.worlds import WORLDS
from benchmarks.worlds.write import write


def main(arguments: Sequence[str] | None = None) -> None:
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
    for name in chosen.names or WORLDS:
        try:
            print(write(chosen.out / name, WORLDS[name], chosen.seed, chosen.size))
        except FileExistsError as error:
            parser.error(str(error))


if __name__ == "__main__":
    main()
