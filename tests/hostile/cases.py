"""What a hostile input is: files that are made, a command that is given them, and where the two may lie."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.support.data.dataset_files import put
from tests.support.datasets import encoded, picture, tiny_folder_dataset

# Stands for a secret in files outside the dataset, in addresses and in the environment: it must never come out.
CANARY = "c4n4ryS3cr3t93716"
CODES = frozenset({0, 2, 3, 5, 6})
HEADER = "file_name,split,label,attribute\n"
_LENIENT = (
    "--data.max_bad_fraction", "1", "--data.max_bad_group_fraction", "1", "--data.max_conflict_fraction", "1",
    "--data.max_leak_fraction", "1", "--data.allow_missing", "true",
)  # fmt: skip
_A_RUN = ("--preset", "demo", "--data.root", "{data}", "--data.format", "auto", "--out", "{out}", "--cluster.k", "1")
INSPECT: Sequence[str] = ("inspect", "{data}", *_LENIENT)
INGEST: Sequence[str] = ("ingest", *_A_RUN, *_LENIENT)
PLAN: Sequence[str] = ("plan", *_A_RUN)
INIT: Sequence[str] = ("init", "{data}", "--to", "{out}.yaml")
OF_CONFIG: Sequence[str] = ("plan", "{config}", "--preset", "demo", "--out", "{out}")


@dataclass(frozen=True)
class Place:
    """Where a case may write: ``data`` (its dataset), ``config`` (a file's name), ``out`` (a folder's name).

    ``outside`` is not its own: nothing there may be read or written. ``run`` is a whole run's folder, which it may read.
    """

    data: Path
    config: Path
    out: Path
    outside: Path
    run: Path

    def words(self, words: Sequence[str]) -> list[str]:
        """A command with the names of these places."""
        return [word.format_map(vars(self)) if "{" in word else word for word in words]


@dataclass(frozen=True)
class Case:
    """A hostile input. ``says``: what the command must say of it (a regular expression); ``codes``: its exit codes."""

    kind: str
    name: str
    make: Callable[[Place], object]
    words: Sequence[str] = INSPECT
    says: str = ""
    codes: frozenset[int] = CODES
    env: Mapping[str, str] = field(default_factory=dict)
    inside: bool = False
    """Whether the command stands in the dataset's folder."""
    torch: bool = False
    """Whether the command needs torch."""

    @property
    def id(self) -> str:
        """For people."""
        return f"{self.kind}: {self.name}"


def refused(*codes: int) -> frozenset[int]:
    """Exit codes of an input that must not pass."""
    return frozenset(codes or {2, 3})


@cache
def temporary() -> Path:
    """A folder of this process for what several cases share."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _template() -> Path:
    return tiny_folder_dataset(temporary() / "data")


def good(place: Place) -> Path:
    """A small dataset in which nothing is wrong."""
    return Path(shutil.copytree(_template(), place.data, dirs_exist_ok=True))


def with_rows(place: Place, rows: str) -> Path:
    """The same with more rows in its table."""
    root = good(place)
    with (root / "metadata.csv").open("a", encoding="utf-8", newline="") as table:
        table.write(rows)
    return root


def with_image(place: Place, content: bytes, name: str = "odd.png") -> Path:
    """The same with one more image."""
    root = with_rows(place, f"{name},train,cat,indoor\n")
    put(root / name, content)
    return root


def with_table(place: Place, name: str, content: bytes | str) -> Path:
    """The same, but another table in place of its own."""
    root = good(place)
    (root / "metadata.csv").unlink()
    put(root / name, content)
    return root


def sparse(path: Path, size: int, start: bytes = b"", end: bytes = b"") -> Path:
    """A file that says it has ``size`` bytes and takes none on the disk but those at its start and its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
        file.seek(size - len(end))
        file.write(end)
    return path


def an_image(number: int = 0) -> bytes:
    """A good one."""
    return encoded(picture(number % 2, number // 2 % 2, 100 + number))
