"""What rots in a stage's result is noticed by its hash, on a disk and in a bucket alike, and taken back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairsynth.artifacts import Artifact, Units, finished_records, take_back
from fairsynth.errors import DamagedError, DataError
from fairsynth.store import seals
from fairsynth.store import units as units_module
from fairsynth.store.mirror import newest, place_of
from fairsynth.store.seals import SEAL
from tests.store.test_units import IDENTITY, finished, in_bucket, root, tree_gone_here, writing

__all__ = ["in_bucket", "root"]


# Fault case 62: a flipped bit.
def damaged(root: Path, key: str) -> None:
    """Change one byte of a file where it is kept: on the disk, or in the bucket."""
    if place := place_of(root):
        found = [entry.key for entry in place[0].objects.walk("stages") if entry.key.endswith(key)]
        content = bytearray(place[0].objects.read(found[0]) or b"")
        content[0] ^= 1
        place[0].objects.write(found[0], bytes(content))
        tree_gone_here(root)
    else:
        (path,) = root.glob(f"stages/**/{key}")
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.write_bytes(content)
    seals._Known.found.clear()
    units_module._SOUND.clear()


@pytest.mark.parametrize("key", ["a.txt", "table.txt", "x.txt"])
def test_a_flipped_bit_is_noticed_and_taken_back(root: Path, key: str) -> None:
    artifact = finished(root)
    damaged(root, key)
    again = Artifact(root, IDENTITY)
    with pytest.raises(DamagedError, match="is not what was written") as error:
        _ = again.path
        _ = again.units()["x"]
    file = "training/x.txt" if key == "x.txt" else key
    assert error.value.place == (artifact.name, "x" if key == "a.txt" else "", file)
    prefixed = DamagedError(f"stage embed failed in 1 of 2 lots: {error.value}")
    assert prefixed.place == error.value.place
    take_back(root, *error.value.place)
    assert not Artifact(root, IDENTITY).finished
    assert Artifact(root, IDENTITY).units().done() == (set() if key == "a.txt" else {"x"})
    if key != "a.txt":  # who makes it keeps what it finds, and would keep the damaged one
        assert not newest(root / "stages" / artifact.name / file).exists()


def test_damage_of_this_nodes_copy_alone_costs_the_bucket_nothing(in_bucket: Path) -> None:
    artifact = finished(in_bucket)
    for path in (artifact.path / "table.txt", artifact.units()["x"] / "a.txt"):
        path.write_text("rot")
    seals.forget(artifact.path)
    seals.forget(artifact.units().path / "x")
    again = Artifact(in_bucket, IDENTITY)
    assert (again.path / "table.txt").read_text() == "rows"
    units_module._SOUND.clear()
    assert (again.units()["x"] / "a.txt").read_text() == "unit"


def test_all_damaged_units_are_taken_back_at_once(root: Path) -> None:
    units = finished(root).units()
    for name in ("y", "z"):
        units.commit(name, writing(name))
    if place := place_of(root):
        for entry in [entry for entry in place[0].objects.walk("stages") if entry.key.endswith("a.txt")]:
            place[0].objects.write(entry.key, b"rot" if "/z/" not in entry.key else b"z")
        tree_gone_here(root)
        units_module._SOUND.clear()
    else:
        for name in ("x", "y"):
            (units.path / name / "a.txt").write_text("rot")
    for name in "xyz":
        seals.forget(units.path / name)
    take_back(root, Artifact(root, IDENTITY).name, "x", "a.txt")
    assert Units(units.path).done() == {"z"}


def test_a_record_that_was_cut_is_damaged(root: Path) -> None:
    artifact = finished(root)
    if place := place_of(root):
        place[0].objects.write(f"stages/{artifact.name}/artifact.json", b'{"schema": 1, "cou')
    else:
        (artifact.path / "artifact.json").write_text('{"schema": 1, "cou')
    again = Artifact(root, IDENTITY)
    assert again.finished
    with pytest.raises(DataError, match=r"artifact.json is damaged.*run the run's command again"):
        _ = again.digest
    assert finished_records(root, "embed") == []


def test_units_of_versions_before_hashes_are_read(tmp_path: Path) -> None:
    units = Units(tmp_path / "embed-1" / "units")
    units.commit("x", writing("old"))
    (units.path / "x" / SEAL).unlink()
    assert (units["x"] / "a.txt").read_text() == "old"


def test_a_process_hashes_so_many_bytes_and_compares_sizes_beyond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = Units(tmp_path / "embed-1" / "units")
    for name in "abc":
        units.commit(name, writing("0123456789"))
        (units.path / name / "a.txt").write_text("012345678X")
    monkeypatch.setattr(seals, "MOST_HASHED", seals._Known.hashed + 15)
    with pytest.raises(DamagedError):
        _ = units["a"]
    assert (units["b"] / "a.txt").read_text().endswith("X")
    (units.path / "c" / "a.txt").write_text("0123")
    with pytest.raises(DamagedError):
        _ = units["c"]


def test_units_are_compared_by_threads_while_others_are_forgotten(tmp_path: Path) -> None:
    units = Units(tmp_path / "embed-1" / "units")
    for name in range(40):
        units.commit(str(name), writing("x"))

    def work(name: int) -> None:
        for _ in range(200):
            _ = units[str(name)]
            seals.forget(units.path / str(name))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
