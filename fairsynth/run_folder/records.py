"""What records in an output folder say, looked at before it is believed: they may be damaged, or somebody else's."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairsynth.errors import DataError, FairsynthError
from fairsynth.escaping import printable
from fairsynth.run_folder.files import is_file, read_text
from fairsynth.run_folder.weights import check_header

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+@%, -]{0,200}")
# After which of the tables only their footers are looked at.
_SECONDS = 60.0
_COUNTS = ("input", "used", "quarantined", "excluded")
# What of an adapter's facts others read, and what each is.
_FACTS: Mapping[str, type] = {
    "name": str, "label": str, "attribute": str, "cluster": int, "images": int, "prompt": str, "steps": int,
    "best_step": int, "validation": list, "failed": str,
}  # fmt: skip


def damaged(path: Path, why: str, remedy: str = "") -> DataError:
    """The error for a file of an output folder that is damaged or not what this version writes: its name, and what to do.

    ``remedy``: what to do; if it is not given, how the file's stage is made again.
    """
    return DataError(
        f"{printable(f'{path}')} is damaged, or another version wrote it ({printable(' '.join(why.split())[:300])}); "
        f"{printable(remedy or made_again(path))}"
    )


def made_again(path: Path) -> str:
    """What to do about a damaged file of a stage, or of a view."""
    parts = path.parts
    if "stages" not in parts[:-2]:
        return "remove it, and run the same command again, which makes it anew"
    top = path.parents[parts[::-1].index("stages") - 2]  # stages/<stage>-<fingerprint>
    record = top / "artifact.json"
    if path == record:
        return "remove this file and run the run's command again: the stage goes on from the units that are there"
    inside = path.relative_to(top).parts
    also = f"{top.joinpath(*inside[:2])} and {record}" if inside[0] == "units" and len(inside) > 1 else f"{record}"
    return f"remove {also}, and run the run's command again: the stage makes what is missing"


def unit_name(name: str) -> str:
    """The name of a unit, if it is one. Raises DataError for text that leads elsewhere as a path."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DataError(
            f"a record names the unit {printable(repr(name)[:100])}, which is no name of a unit; the folder's records are damaged or not "
            "fairsynth's: use another --out, or the folder that the run itself wrote"
        )
    return name


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON file of an output folder. Raises DataError if it cannot be read or is of another kind."""
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, getattr(error, "strerror", None) or str(error) or type(error).__name__) from None
    if not isinstance(content, kind):
        raise damaged(path, f"it holds a {type(content).__name__}")
    return content


def read_record(path: Path, stage: str, fingerprint: str) -> dict[str, Any]:
    """The record of a finished artifact. Raises DataError if it is damaged, or is that of another artifact."""
    record: dict[str, Any] = read_json(path)
    if (record.get("stage"), record.get("fingerprint")) != (stage, fingerprint):
        raise damaged(path, f"it is the record of another artifact: stage {record.get('stage')!r}")
    counts, seconds, when = (record.get(key) for key in ("counts", "seconds", "finished_at"))
    if not isinstance(counts, dict) or not all(_number(counts.get(key)) for key in _COUNTS):
        raise damaged(path, "it has no counts")
    if not _number(seconds) or not _number(when):
        raise damaged(path, "it has no times")
    if not isinstance(record.get("digest"), str | None) or not isinstance(record.get("inputs"), dict):
        raise damaged(path, "it does not say what it was made from")
    return record


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_facts(path: Path, unit: str = "") -> dict[str, Any]:
    """An adapter's facts: each that is there is of its kind; with the ``unit`` of a group's adapter all are, and of it.

    Raises DataError if they are damaged: a cluster, for one, becomes a folder's name.
    """
    facts: dict[str, Any] = read_json(path)
    for key in _FACTS if unit else (key for key in ("failed", *_FACTS) if key in facts or key == "failed"):
        if not isinstance(facts.get(key), _FACTS[key]) or isinstance(facts[key], bool):
            raise damaged(path, f"{key} is {facts.get(key)!r}"[:200])
    if unit and (facts["name"] != unit or facts["cluster"] < 0):
        raise damaged(path, f"it is that of the adapter {facts['name']!r}, cluster {facts['cluster']}")
    return facts


@contextmanager
def diagnosed(folders: Callable[[], Iterable[Path]]) -> Iterator[None]:
    """Work with what lies in these folders of stages: if it fails by a damaged file there, the error says which.

    Raises DataError that names the file; any other error passes.
    """
    try:
        yield
    except FairsynthError:
        raise
    except Exception as error:
        if path_and_why := _first_damaged(folders()):
            raise damaged(*path_and_why) from error
        raise


def _first_damaged(folders: Iterable[Path]) -> tuple[Path, str] | None:
    began = time.monotonic()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if is_file(path) and (why := _problem(path, whole=time.monotonic() - began < _SECONDS)):
                return path, why
    return None


def _problem(path: Path, whole: bool) -> str:
    """What is wrong with a file of a stage; empty if it opens, or is of a kind that is not looked into.

    ``whole``: look at a table's rows, too.
    """
    try:
        if path.suffix == ".json":
            json.loads(read_text(path))
        elif path.suffix == ".parquet":
            _read_parquet(path, whole)
        elif path.suffix == ".safetensors":
            check_header(path)
    except (OSError, ValueError, RecursionError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _read_parquet(path: Path, whole: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches(100) if whole else ():
                pass
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
