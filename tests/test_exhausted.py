"""Whichever library meets a full disk or memory that is used up, people are told the same way what ran out and where."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import save_file

from fairsynth import exhausted as module
from fairsynth.artifacts import Units, write_json
from fairsynth.classify.packs import pack
from fairsynth.config import ANY_IMAGE
from fairsynth.console import guarded
from fairsynth.errors import DataError, Exhausted, InfrastructureError
from fairsynth.exhausted import amount, exhausted, is_final, told_if_exhausted
from fairsynth.store.mirror import mirrored
from tests.support.calling import call
from tests.support.datasets import encoded, picture
from tests.support.faults.disks import files_of_at_most, small_disk

NOISE = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)


def _figure(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().imshow(NOISE)
    figure.savefig(path, format="png")


# 100 kB and more each.
WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: path.write_bytes(bytes(100_000)),
    "json": lambda path: write_json(path, ["x" * 100_000]),
    "pyarrow": lambda path: pq.write_table(pa.table({"a": np.random.default_rng(0).random(20_000)}), path),
    "safetensors": lambda path: save_file({"a": np.zeros(100_000)}, path),
    "pillow": lambda path: Image.fromarray(NOISE).save(path, format="PNG"),
    "numpy": lambda path: np.save(path.open("wb"), NOISE),
    "matplotlib": _figure,
}


def _error_of(work: Callable[[], object]) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("it was written")


# Fault case 55: the disk is full, or a quota, a limit or the file system lets no more be written.
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_that_may_not_grow_is_told_alike_by_all_libraries(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    with files_of_at_most(20_000):
        error = _error_of(lambda: write(tmp_path / "file"))
    meant = exhausted(error, tmp_path, "embed")
    assert isinstance(meant, Exhausted) and meant.exit_code == 5 and is_final(error)
    assert str(meant).startswith("stage embed stopped: ") and "the same command goes on" in str(meant)
    assert "a file may not grow further" in str(meant) or "no space is left" in str(meant)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_told_alike_by_all_libraries(tmp_path: Path, write: Callable[[Path], object]) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        error = _error_of(lambda: write(disk.path / "file"))
        meant = exhausted(error, disk.path, "tune")
    assert f"no space is left at {disk.path}" in str(meant) and " are free); free some" in str(meant)


def test_a_unit_that_does_not_fit_leaves_nothing_and_is_made_when_there_is_room(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        pq.write_table(pa.table({"a": np.random.default_rng(0).random(20_000)}), folder / "a.parquet")

    with small_disk(tmp_path / "disk", 64) as disk:
        units = Units(disk.path / "units")
        with pytest.raises(Exhausted), told_if_exhausted(disk.path, "embed"):
            units.commit("one", write)
        assert not units.done() and not list(units.path.iterdir())
        disk.resize(1000)
        units.commit("one", write)
        assert units.done() == {"one"} and pq.read_table(units["one"] / "a.parquet").num_rows == 20_000


def test_pixels_for_which_a_disk_has_no_room_are_an_error_and_no_crash(tmp_path: Path) -> None:
    contents = [(i, encoded(picture(0, 0, i, side=32))) for i in range(40)]
    values = ["x"] * len(contents)
    # 480 kB, mapped into memory: a page that cannot be written would end this process by SIGBUS.
    with small_disk(tmp_path / "disk", 200) as disk, pytest.raises(OSError, match="No space left"):
        pack(disk.path, contents, values, values, ["x"], ["x"], 64, ANY_IMAGE)


def test_what_is_full_is_the_disk_of_a_buckets_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    root = mirrored("s3://bucket/out", "1").root
    named = OSError(errno.ENOSPC, "No space left on device", str(root / "stages" / "x"))
    for error in (named, OSError(errno.EDQUOT, "Disk quota exceeded"), OSError(errno.EROFS, "Read-only file system")):
        told = str(exhausted(error, root, "embed"))
        assert f" in {tmp_path}/cache, where this machine has its copy" in told and "s3://" not in told
        assert (
            "or set FAIRSYNTH_CACHE to a folder on another disk; finished units are kept" in told
            and "--out" not in told
        )


# Fault case 45: the memory of the machine runs out.
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/o/u/x"), "stage s stopped: no space is left at /o/u/x"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up at /o; free some, or choose a larger"),
        (OSError(errno.EROFS, "Read-only file system", "/o/x"), "the disk is read-only at /o/x; mend that"),
        (OSError(errno.EIO, "Input/output error"), "the disk does not read or write (input/output error) at /o; mend"),
        (InfrastructureError("stage s failed: OSError: [Errno 28] No space left on device: '/o/x'"), "left at /o/x"),
        (InfrastructureError("stage s failed: OutOfDiskError: Local disk is full"), "set RAY_TMPDIR to a folder that has more"),
        (InfrastructureError("stage s failed: OutOfMemoryError: CUDA out of memory."), "resources.gpus_per_worker 1"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "stage s stopped: the GPU's memory ran out"),
        (MemoryError(), "the machine's memory ran out (MemoryError); let fewer workers run side by side"),
        (InfrastructureError("stage s failed: OutOfMemoryError: Task was killed due to the node running low on memory."),
         "(lower resources.workers)"),
    ],
)  # fmt: skip
def test_what_ran_out_and_what_to_do_is_one_sentence(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ray_places", lambda: [Path("/tmp")])
    meant = str(exhausted(error, Path("/o"), "s"))
    assert (
        told in meant and "\n" not in meant and meant.endswith("finished units are kept, and the same command goes on")
    )


@pytest.mark.parametrize(
    "error",
    [
        DataError("images/x.png: [Errno 5] Input/output error"),
        InfrastructureError("stage s failed: RuntimeError: shapes; the process was killed by SIGKILL by OOM killer due to high memory usage, or else"),
        Exhausted("this machine has not enough memory for an image: CUDA out of memory"),
        OSError(errno.ENOENT, "No such file or directory", "/o/x"),
        ValueError("28"),
    ],
)  # fmt: skip
def test_other_errors_keep_their_meaning(error: Exception) -> None:
    assert exhausted(error, Path("/o"), "s") is None
    with pytest.raises(type(error)) as caught, told_if_exhausted(Path("/o"), "s"):
        raise error
    assert caught.value is error


def test_a_command_without_an_output_folder_ends_with_5_too(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert guarded(work) == 5
    said = capsys.readouterr().err
    assert said == "fairsynth: the command stopped: no space is left; free some; then the same command succeeds\n"


def test_amounts_are_in_units_that_people_use() -> None:
    assert [amount(n) for n in (5, 2_000, 3.4e6, 5e10)] == ["5 B", "2.0 kB", "3.4 MB", "50 GB"]


@pytest.mark.parametrize("settings", [(), ("--resources.disk_margin", "0")])
def test_a_disk_without_room_for_the_run_is_told_at_its_start(tmp_path: Path, settings: tuple[str, ...]) -> None:
    out = tmp_path / "disk" / "out"
    with small_disk(tmp_path / "disk", 9_000):
        code, _, said = call("run", "--preset", "demo", "--out", out, "--yes", *settings)
        made: list[Any] = list(out.iterdir()) if out.exists() else []
    assert code == 5 and said.count("\n") == 1
    if settings:  # ingest writes the built-in dataset
        assert made and f"stage ingest stopped: no space is left at {out}" in said
    else:
        assert not made and "9.2 MB free, and the run is still to write about" in said
        assert "go on anyway with --resources.disk_margin 0" in said
