"""Whose an output folder is: a run writes only into a folder that is new, empty, or marked as a run's.

The mark, ``.fairsynth``, also names what runs have laid out there for people. A file or folder of the same name that no run
made is never replaced. A place in a bucket has a mark of its own (``fairsynth.store.place``), looked at by whoever takes
its lease; what lies in this machine's copy of it says nothing of whose it is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from fairsynth.artifacts import STAGES, write_json
from fairsynth.errors import ConfigError
from fairsynth.escaping import enumerated, printable
from fairsynth.run_folder.files import is_file, is_folder, read_text, refused_link, strange
from fairsynth.store.mirror import place_of

MARK = ".fairsynth"
# In a view that is a folder: the names of its files, a line each.
CONTENTS = ".contents"
# What a run lays out for people, each in the place of the one before.
_FOLDER_VIEWS = ("classifier", "adapters", "synthetic")
VIEWS = (
    *_FOLDER_VIEWS,
    "report.html", "report.json", "predictions.parquet", "trials.csv", "search.png",
)  # fmt: skip
# What else a run makes in its folder; in folders every entry is looked at.
_FILES = (MARK, ".lock", "progress.json", ".progress.json.new")
_FOLDERS = ("stages", "logs", "bench", "tensorboard", ".tracked", "dataset")
_ARTIFACT = re.compile(rf"(?:{'|'.join(STAGES)})-[0-9a-f]{{16}}")
# What people and schedulers put beside a run before it begins: its config, its log; and what disks have of themselves.
_ORDINARY = re.compile(
    r".+\.(?:ya?ml|log|out|err|txt|sh|sbatch)|\.nfs.*|\.fairsynth-.+|\.DS_Store|\._.+|\.Trash-.+|\.ipynb_checkpoints|\.git(?:keep|ignore)"
    r"|lost\+found|\.snapshots?"
)


def check_folder(root: Path) -> None:
    """Raise ConfigError for an output folder that a run must not write to; nothing is written to find out.

    That is the file system's root, the home folder and those above it; a folder with other things in it and no run; one
    with a link where runs write, or with something of a view's name that no run made.
    """
    if place_of(root):
        return
    if root == Path(root.anchor) or _above_home(root):
        raise ConfigError(
            f"the output folder {printable(str(root))} is {'the root of the file system' if root == Path(root.anchor) else 'a home folder, or above one'}; "
            "give a folder of its own with --out"
        )
    if not is_folder(root):
        return
    check_links(root)
    _check_owner(root)


def _check_owner(root: Path) -> None:
    """The part of ``check_folder`` that asks whose the folder is."""
    if _made(root) is None and not _of_earlier_version(root):
        with suppress(PermissionError):
            _require_empty(root)
        return
    if foreign := [name for name in VIEWS if not _may_replace(root, name)]:
        raise _not_ours(root, foreign)


def check_links(root: Path) -> None:
    """Raise ConfigError for a link, a pipe or the like where runs write and read in an output folder."""
    _check_tops(root)
    for name in _FOLDERS:
        for path in strange(root / name) if is_folder(root / name) else ():
            raise refused_link(path)


def _check_tops(root: Path) -> None:
    check_lock(root)
    for name in (*_FILES, *_FOLDERS, *VIEWS):
        path = root / name
        if os.path.lexists(path) and not (is_file(path) or is_folder(path)):
            raise refused_link(path)


def check_lock(root: Path) -> None:
    """Raise ConfigError for a lock that is a link, or has a second name: what is written to it would be written there."""
    path = root / ".lock"
    if os.path.lexists(path) and not is_folder(path) and not (is_file(path) and os.lstat(path).st_nlink == 1):
        raise refused_link(path)


def claim(root: Path) -> None:
    """Mark a folder as a run's, for whoever holds its lock, and has looked at it by ``check_folder`` before.

    Raises ConfigError if another run or program has made something there since, except for links deep inside: of a large
    run there are a hundred thousand folders, which are looked at once.
    """
    if not place_of(root):
        _check_tops(root)
        _check_owner(root)
    if not place_of(root) and _made(root) is None:
        # Of an earlier version's run, what lies there was made by it.
        _write(root, [name for name in VIEWS if os.path.lexists(root / name)])


def take_name(root: Path, name: str) -> None:
    """Before a view is laid out: note in the mark that this name is fairsynth's from now on.

    Raises ConfigError if something has the name that no run made.
    """
    if place_of(root):
        return
    made = _made(root)
    if not _may_replace(root, name):
        raise _not_ours(root, [name])
    if made is not None and name not in made:
        _write(root, [*made, name])


def is_run_folder(root: Path) -> bool:
    """Whether runs have written to the folder: it has the mark, or what runs of earlier versions left."""
    return _made(root) is not None or _of_earlier_version(root)


def _above_home(root: Path) -> bool:
    try:
        return Path.home().resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _made(root: Path) -> list[str] | None:
    """The views that runs have laid out, by the folder's mark; None if it has none. Raises ConfigError if it is damaged."""
    path = root / MARK
    if not os.path.lexists(path):
        return None
    try:
        content = json.loads(read_text(path, 1 << 20))
        return [name for name in content["made"] if name in VIEWS]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(
            f"{printable(str(path))}, by which fairsynth knows its output folders, cannot be read; remove it if a run made the "
            "folder, or choose another with --out"
        ) from None


def _write(root: Path, made: Iterable[str]) -> None:
    write_json(root / MARK, {"schema": 1, "what": "an output folder of fairsynth", "made": sorted({*made})})


def _of_earlier_version(root: Path) -> bool:
    """Whether runs wrote to the folder that knew no mark."""
    with suppress(OSError):
        return any(_ARTIFACT.fullmatch(path.name) and is_folder(path) for path in artifact_folders(root))
    return False


def artifact_folders(root: Path) -> Iterator[Path]:
    """The folders of artifacts in an output folder, sorted."""
    stages = root / "stages"
    for name in sorted(os.listdir(stages)) if is_folder(stages) else ():
        if _ARTIFACT.fullmatch(name) and is_folder(stages / name):
            yield stages / name


def _require_empty(root: Path) -> None:
    others = sorted(entry.name for entry in os.scandir(root) if not _ordinary(entry))
    if others:
        raise ConfigError(
            f"the output folder {printable(str(root))} holds other files and no run of fairsynth: {enumerated(others, most=5)}; "
            "give a new or an empty folder with --out, nothing of others is replaced"
        )


def _ordinary(entry: os.DirEntry[str]) -> bool:
    """Whether people keep such a thing beside a run, and no run writes to it."""
    if entry.name == "logs" and is_folder(Path(entry.path)):
        return not any(os.path.lexists(Path(entry.path, f"{name}.jsonl")) for name in ("run", "failures"))
    if entry.name == ".lock":
        return is_folder(Path(entry.path)) or _is_lock(Path(entry.path))  # where none can be made is told later
    return bool(_ORDINARY.fullmatch(entry.name)) and entry.name not in VIEWS


def _is_lock(path: Path) -> bool:
    """Whether a lock is that of a run that was ended before it did anything, not another program's."""
    try:
        text = read_text(path, 1 << 16)
        return not text or {*json.loads(text)} == {"pid", "host", "since"}
    except (OSError, ValueError, TypeError):
        return False


def _may_replace(root: Path, name: str) -> bool:
    """Whether a view may be laid out in this place: nothing is there, or what a run made."""
    path, made = root / name, _made(root)
    if not os.path.lexists(path):
        return True
    if made is not None and name not in made:
        return False
    if name in _FOLDER_VIEWS:
        return is_view(path)
    return is_file(path) and (made is not None or _of_earlier_version(root))


def is_view(path: Path) -> bool:
    """Whether a folder was laid out by fairsynth: by its list of files, by its mark, or as classifiers were before."""
    marked = any(is_file(path / name) for name in (CONTENTS, ".fingerprint"))
    return is_folder(path) and (marked or _is_classifier(path))


def _is_classifier(path: Path) -> bool:
    """Whether versions without marks laid out this folder: their card is in it, and nothing of others."""
    known = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    try:
        return {*os.listdir(path)} <= known and "by fairsynth" in read_text(path / "README.md", 1 << 20)
    except (OSError, ValueError):
        return False


def _not_ours(root: Path, names: Iterable[str]) -> ConfigError:
    return ConfigError(
        f"the output folder {printable(str(root))} holds {enumerated(names)}, which no run of fairsynth made: it would be replaced; "
        "move it elsewhere, or choose another folder with --out"
    )
