"""The same run on a disk and in a bucket of an S3 service on this machine: seconds of the whole command and of its stages.

``python benchmarks/disk_or_bucket.py [--preset demo] [--before CHECKOUT] [--json FILE]``. The service is the one of the
tests (moto's, in a process of its own; ``make test`` installs it), so it takes its share of the same processors.
``CHECKOUT`` is a folder with another version of the source, whose run on a disk is made first: what a change costs.
Both versions must pin the same packages.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import REPOSITORY, machine, write_json

from fairsynth import open_run


def timed(preset: str, out: str, checkout: Path, variables: Mapping[str, str]) -> float:
    """Seconds of the whole command."""
    words = [sys.executable, "-m", "fairsynth.cli", "run", "--preset", preset, "--out", out, "--yes"]
    environment = {**os.environ, **variables, "PYTHONPATH": str(checkout)}
    began = time.monotonic()
    subprocess.run(words, env=environment, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def stages(out: str | Path) -> dict[str, float]:
    """Seconds of each stage, as the report has them."""
    return {stage["name"]: stage["seconds"] for stage in open_run(out).report.table("stages").to_pylist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--before", type=Path, help="a checkout of another version, to compare with on a disk")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    from tests.support.store.s3_server import KEYS, new_bucket, serving

    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as kept, serving() as endpoint:
        folder = Path(kept)
        bucket = str(new_bucket(endpoint).uri())
        here = {**KEYS, "FAIRSYNTH_CACHE": str(folder / "copy")}
        places = {"before, disk": (str(folder / "before"), chosen.before.resolve())} if chosen.before else {}
        places |= {"disk": (str(folder / "disk"), REPOSITORY), "bucket": (bucket, REPOSITORY)}
        os.environ |= here
        for name, (out, checkout) in places.items():
            facts[name] = {"seconds": timed(chosen.preset, out, checkout, here)}
            facts[name]["stages"] = stages(out)
            print(f"{name}: {facts[name]['seconds']:.0f} s", flush=True)
    for name in ("before, disk", "bucket"):
        if name in facts:
            first, other = ("disk", name) if name.startswith("before") else (name, "disk")
            facts[f"{first} / {other}"] = facts[first]["seconds"] / facts[other]["seconds"]
    for key, value in (facts | machine()).items():
        print(f"{key}: {value if not isinstance(value, float) else round(value, 3)}")
    write_json(chosen.json, facts | machine())


if __name__ == "__main__":
    sys.exit(main())
