"""What two runs must have in common to count as the same.

``python -m tests.support.comparing runs/before runs/after`` compares two finished runs of one config: every file of every
stage's artifact, the records and report.json but for what says when, where and how fast. Prints what differs; exit code 1
if anything does.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

# What says when, where and how fast a result was made, and nothing of what it is.
TIMES = {"seconds", "startup_seconds", "worker_seconds", "finished_at", "workers", "units", "cached", "root"}
# Where the checkout with the demo's models lies.
_CHECKOUT = re.compile(r"/[^\"'\s]*(?=/fairsynth/demo/weights/)")
# Named by the times of the dataset's files, which each run of the demo writes anew.
BY_FILE_TIMES = "ingest"


def stage_folder(out: Path, stage: str) -> Path:
    """The single artifact folder of a stage."""
    (folder,) = (path for path in (out / "stages").glob(f"{stage}-*") if (path / "artifact.json").exists())
    return folder


def sha(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def essence(out: Path) -> dict[str, Any]:
    """Everything a run promises to reproduce: rows, image bytes, adapter bytes, predictions, settings."""
    synthetic = pq.read_table(stage_folder(out, "synthesize") / "synthetic.parquet").to_pylist()
    predictions = pq.read_table(out / "predictions.parquet").to_pylist()
    report = json.loads((out / "report.json").read_text())
    files = sorted(path for name in ("adapters", "synthetic") for path in (out / name).rglob("*") if path.is_file())
    return {
        "rows": {row["image_id"]: row for row in synthetic},
        "files": {str(path.relative_to(out)): sha(path) for path in files},
        "clusters": pq.read_table(stage_folder(out, "cluster") / "clusters.parquet").to_pylist(),
        "predictions": predictions,
        "settings": report["settings"],
        "fingerprints": sorted(
            path.name for path in (out / "stages").iterdir() if not path.name.startswith(f"{BY_FILE_TIMES}-")
        ),
    }


def without_times(content: Any) -> Any:
    """JSON without what says when, where and how fast."""
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in TIMES}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def content_of(path: Path) -> str:
    """A file's content as text that is equal for equal results: its hash, or its values without times."""
    if path.suffix == ".json":
        content = without_times(json.loads(path.read_text("utf-8")))
        if path.name == "artifact.json":
            content.pop("files", None)  # hashes of files, of which some hold times; the files are compared themselves
        return json.dumps(content, sort_keys=True)
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(path.read_text("utf-8")))
        return json.dumps([{key: value for key, value in row.items() if key not in TIMES} for row in rows])
    if path.suffix == ".md":
        return _CHECKOUT.sub("", path.read_text("utf-8"))
    return sha(path)


def artifact_files(out: Path) -> Iterator[tuple[str, str]]:
    """Name and content of all that the stages of a run left, and of what is laid out for people."""
    for stage in sorted((out / "stages").iterdir()):
        name = stage.name.rsplit("-", 1)[0] if stage.name.startswith(f"{BY_FILE_TIMES}-") else stage.name
        for path in sorted(path for path in stage.rglob("*") if path.is_file()):
            if path.name == "artifact.json" and name == BY_FILE_TIMES:
                record = without_times(json.loads(path.read_text("utf-8")))
                yield f"{name}/{path.name}", json.dumps([record["counts"], record["digest"], record["reasons"]])
            # A seal is the hashes of files that are compared themselves, or that hold seconds.
            elif path.name not in ("cost.parquet", "report.html", ".unit.json"):
                yield f"{name}/{path.relative_to(stage)}", content_of(path)
    views = [path for view in ("adapters", "classifier", "synthetic") for path in (out / view).rglob("*")]
    for path in sorted(path for path in [*views, out / "predictions.parquet", out / "report.json"] if path.is_file()):
        yield str(path.relative_to(out)), content_of(path)


def differences(one: Path, other: Path) -> list[str]:
    """Files that only one of two runs has, or that differ."""
    left, right = dict(artifact_files(one)), dict(artifact_files(other))
    lacking = [f"only in {one}: {name}" for name in sorted(left.keys() - right.keys())]
    lacking += [f"only in {other}: {name}" for name in sorted(right.keys() - left.keys())]
    return lacking + [f"differs: {name}" for name in sorted(left.keys() & right.keys()) if left[name] != right[name]]


def main() -> int:
    """Compare two runs; returns the exit code."""
    if len(sys.argv) != 3:
        print("usage: python -m tests.support.comparing RUN OTHER_RUN", file=sys.stderr)
        return 2
    one, other = map(Path, sys.argv[1:])
    found = differences(one, other)
    print("\n".join(found) or f"equal: {len(list(artifact_files(one)))} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
