"""A disk that fills in the middle of a run: one line and exit code 5; with more room the same command ends undisturbed."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import fairsynth, small_arguments
from tests.support.comparing import essence, sha, stage_folder
from tests.support.faults.disks import files_of_at_most, small_disk

# As a rerun after a failure would find them: the later stages' records stay, and their names do not change.
_WORKERS, _DRIVER = "embed", "audit"


def _ended(command: tuple[str, ...], words: str) -> None:
    """Run a command that must end with one line and exit code 5."""
    result = fairsynth(*command)
    lines = [line for line in result.stderr.splitlines() if line.startswith("fairsynth:")]
    assert result.returncode == 5 and len(lines) == 1 and words in lines[0], result.stderr[-2000:]
    assert "Traceback" not in result.stderr and "the same command goes on" in lines[0]


def _tables(stage: Path) -> dict[Path, str]:
    return {path.relative_to(stage): sha(path) for path in stage.rglob("*.parquet")}


# Fault case 55: the disk is full, or a quota, a limit or the file system lets no more be written.
def test_what_a_full_disk_stopped_goes_on_to_the_same_result(finished_run: Path, tmp_path: Path) -> None:
    undisturbed = essence(finished_run)
    files = _tables(stage_folder(finished_run, _WORKERS))
    with small_disk(tmp_path / "disk", 500_000) as disk:
        out = disk.path / "out"
        shutil.copytree(finished_run, out)
        for stage in (_WORKERS, _DRIVER):
            shutil.rmtree(stage_folder(out, stage))
        run = ("run", *small_arguments(out), "--resources.disk_margin", "0")
        # Ray's workers find no room for the second of their units, or the third.
        disk.resize(shutil.disk_usage(out).used // 1024 + 1_500)
        _ended(run, f"stage {_WORKERS} stopped: no space is left at {out}")
        left = list((out / "stages").glob(f"{_WORKERS}-*/units/[!.]*"))
        assert not list((out / "stages").glob(f"{_WORKERS}-*/artifact.json"))
        disk.resize(500_000)
        result = fairsynth(*run)
        assert result.returncode == 0, result.stderr[-3000:]
        assert all(path.is_dir() for path in left), "finished units are kept"
        again = _tables(stage_folder(out, _WORKERS))
        found = essence(out)
    assert again == files
    for part in undisturbed:
        assert found[part] == undisturbed[part], part


def test_a_page_that_may_not_grow_is_told_and_written_later(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)
    shutil.rmtree(stage_folder(out, "report"))
    page = sha(out / "report.html")
    with files_of_at_most(100_000):
        _ended(("report", *small_arguments(out)), "stage report stopped: a file may not grow further")
    assert sha(out / "report.html") == page, "the earlier page stays whole"
    result = fairsynth("report", *small_arguments(out))
    assert result.returncode == 0, result.stderr[-3000:]
    assert essence(out) == essence(finished_run)
