"""What has run out, by the error of whatever library met it first: a disk, its quota, or memory.

Libraries say it in their own ways, and from workers an error comes as text: so it is looked for in the text alone.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairsynth.errors import DamagedError, Exhausted, FairsynthError, InfrastructureError
from fairsynth.store.mirror import FOLDER as CACHE
from fairsynth.store.mirror import cache_folder, place_of

_WORDS = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file may not grow further (ulimit -f, or the largest file that the disk takes)",
    errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk does not read or write (input/output error)",
    errno.ESTALE: "the network disk has lost the file (stale file handle)",
}
_MORE_ROOM = {errno.ENOSPC, errno.EDQUOT}
_FINAL = _MORE_ROOM | {errno.EFBIG, errno.EROFS}
# OSError, pyarrow, Rust (safetensors), and the system's own words.
_NUMBER = re.compile(r"\[Errno (\d+)\]|\[errno (\d+)\]|\(os error (\d+)\)")
_SYSTEM = {os.strerror(number): number for number in _WORDS}
# numpy was stopped in the middle of an array; Ray has no disk left for objects that memory does not hold.
_NUMPY = re.compile(r"\b\d+ requested and \d+ written")
_RAY = re.compile(r"\bOutOfDiskError\b|Local disk is full")
_NAMED = re.compile(r": '(/[^']+)'")
# The GPU's allocator, cuBLAS and cuDNN; then a worker's own memory, and what Ray says of workers that it ended for it.
_GPU = re.compile(r"CUDA out of memory|HIP out of memory|CUDA error: out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED")
_HOST = re.compile(
    r"DefaultCPUAllocator: (can't|not enough)|std::bad_alloc|\bMemoryError\b|Unable to allocate|Cannot allocate memory"
    r"|running low on memory"
)
_ENOUGH = 2**30  # bytes: a disk with so many is not the one that is full
_CLASSIFIERS = ("tune", "evaluate")


@contextmanager
def told_if_exhausted(root: Path, stage: str = "") -> Iterator[None]:
    """Raise Exhausted for errors inside that mean it. ``root``: the output folder; ``stage``: the one at work."""
    try:
        yield
    except Exception as error:
        meant = exhausted(error, root, stage)
        if meant is None:
            raise
        raise meant from error


def exhausted(error: Exception, root: Path | None, stage: str = "") -> Exhausted | None:
    """What an error means if something has run out, in one sentence; None if it means anything else.

    Of errors raised on purpose, only what workers sent as text is looked at: the others say what they mean. ``root``:
    the output folder, if the command has one.
    """
    if isinstance(error, FairsynthError) and not (stage and type(error) is InfrastructureError):
        return None
    text = f"{type(error).__name__}: {error}"
    if number := _disk(error, text):
        meant = _of_disk(number, error, text, root)
    elif _GPU.search(text):
        meant = f"the GPU's memory ran out ({_short(error)}); {_gpu_ways(stage)}"
    elif _HOST.search(text) and "resources.workers" not in text:
        ways = "let fewer workers run side by side (lower resources.workers), or end what else runs there"
        meant = f"the machine's memory ran out ({_short(error)}); {ways}"
    else:
        return None
    kept = "finished units are kept, and the same command goes on" if root else "then the same command succeeds"
    return Exhausted(f"{f'stage {stage}' if stage else 'the command'} stopped: {meant}; {kept}")


def is_final(error: BaseException) -> bool:
    """Whether work that ended so would end so again if it were tried at once: a disk or memory is used up, a file is damaged."""
    return isinstance(error, Exhausted | DamagedError) or _disk(error, f"{type(error).__name__}: {error}") in _FINAL


def _gpu_ways(stage: str) -> str:
    ways = "end what else runs on it, or give each worker a GPU of its own (resources.gpus_per_worker 1)"
    if stage in _CLASSIFIERS:
        ways += ", or let several train one classifier (resources.workers_per_classifier 2)"
    return ways


def _disk(error: BaseException, text: str) -> int:
    """The error number of a disk's failure; 0: it is none."""
    number = getattr(error, "errno", None)
    if number is None and (found := _NUMBER.search(text)):
        number = int(next(filter(None, found.groups())))
    if number is None:
        number = next((n for words, n in _SYSTEM.items() if words in text), None)
    if number is None and (_NUMPY.search(text) or _RAY.search(text)):
        number = errno.ENOSPC
    return number if number in _WORDS else 0


def _of_disk(number: int, error: Exception, text: str, root: Path | None) -> str:
    place = _place(number, error, text, root)
    if place and (place_of(place) or place.is_relative_to(cache_folder())):
        return _of_copy(number)
    what = f"{_WORDS[number]} at {place}" if place else _WORDS[number]
    if number not in _MORE_ROOM:
        return f"{what}; mend that" + (", or choose another folder with --out" if root else "")
    left = free(place) if place else None
    what += (
        f" (now that what was unfinished is removed, {amount(left)} are free)"
        if number == errno.ENOSPC and left is not None
        else ""
    )
    if place and not (root and place.is_relative_to(root)) and any(map(place.is_relative_to, ray_places())):
        return f"{what}; free some, or set RAY_TMPDIR to a folder that has more"
    more = "; 'fairsynth plan' with the same options says how much is still to be written"
    return f"{what}; free some" + (f", or choose a larger disk with --out{more}" if root else "")


def _of_copy(number: int) -> str:
    """A bucket takes everything: what is full is the disk of this machine's copy of it."""
    left = free(cache_folder()) if number == errno.ENOSPC else None
    room = "" if left is None else f" (now that what was unfinished is removed, {amount(left)} are free)"
    do = "free some" if number in _MORE_ROOM else "mend that"
    return (
        f"{_WORDS[number]} in {cache_folder()}, where this machine has its copy of the output{room}; {do}, or set {CACHE} to "
        "a folder on another disk"
    )


def _place(number: int, error: Exception, text: str, root: Path | None) -> Path | None:
    """The file that the error names, else the output folder, or Ray's where that is the one without room."""
    named, found = getattr(error, "filename", None), _NAMED.search(text)
    if isinstance(named, bytes | str):
        return Path(os.fsdecode(named))
    if found:
        return Path(found[1])
    if _RAY.search(text):
        return ray_places()[0]
    room = free(root) if root else None
    if number != errno.ENOSPC or room is None or room < _ENOUGH:
        return root
    return next((place for place in ray_places() if (left := free(place)) is not None and left < _ENOUGH), root)


def ray_places() -> list[Path]:
    """Where a local Ray keeps logs and spilled objects; and shared memory, where there is any."""
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return [Path(base), *(place for place in (Path("/dev/shm"),) if place.is_dir())]  # noqa: S108 - Linux has it there


def free(path: Path) -> int | None:
    """Bytes that a file may still take at a path, which need not be there yet; None if nobody knows."""
    with suppress(OSError, StopIteration):
        return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free
    return None


def amount(size: float) -> str:
    """Bytes in the unit that people would use."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}" if size < 10 * factor else f"{size / factor:.0f} {unit}"
    return f"{size:.0f} B"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".; ") or type(error).__name__
