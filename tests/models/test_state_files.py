"""Files of training states: read back as they were, whole or not there, whoever reads while one writes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch

from fairsynth.models.state_files import read_state, write_state

NAME = "lot.safetensors"


def tensors_of(seed: int, size: int = 5) -> dict[str, torch.Tensor]:
    """Some tensors of different dtypes and shapes."""
    whole = torch.randn(2, size, generator=torch.Generator().manual_seed(seed))
    return {"whole": whole, "exact": whole.double(), "none": torch.zeros(0, 3)}


def assert_same(found: object, seed: int, size: int = 5) -> None:
    """It is the state of this seed, to the last bit."""
    assert isinstance(found, tuple)
    facts, tensors = found
    assert facts == {"seed": seed, "words": ["blå", '"'], "number": 1 / 3}
    expected = tensors_of(seed, size)
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype


def write(path: Path, seed: int, size: int = 5) -> None:
    write_state(path, tensors_of(seed, size), {"seed": seed, "words": ["blå", '"'], "number": 1 / 3})


def test_a_state_is_read_back_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / NAME, 3)
    assert_same(read_state(tmp_path / NAME), 3)


def test_what_is_not_there_or_not_wanted_is_none(tmp_path: Path) -> None:
    write(tmp_path / NAME, 3)
    assert read_state(tmp_path / "other.safetensors") is None
    assert read_state(tmp_path / NAME, lambda facts: facts["seed"] > 3) is None
    assert_same(read_state(tmp_path / NAME, lambda facts: facts["seed"] == 3), 3)


# Fault case 48: a worker is killed in training.
@pytest.mark.parametrize("left", [0, 5, 40, -1])
def test_a_damaged_state_is_none(left: int, tmp_path: Path) -> None:
    write(tmp_path / NAME, 3)
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(content[:left])
    assert read_state(tmp_path / NAME) is None
    (tmp_path / NAME).write_bytes(bytes(len(content)))
    assert read_state(tmp_path / NAME) is None


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / NAME, 1)

    def full(tensors: object, target: Path, facts: object) -> None:
        target.write_bytes(b"half of i")
        raise OSError("no space left on device")

    monkeypatch.setattr("fairsynth.models.state_files.save_file", full)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / NAME, 2)
    assert_same(read_state(tmp_path / NAME), 1)


def test_a_reader_sees_the_old_state_or_the_new_one_or_none(tmp_path: Path) -> None:
    """States of two sizes take turns, and at times there is none; what is read is never a mixture."""
    path, stop, end = tmp_path / NAME, threading.Event(), time.monotonic() + 30
    sizes = [20_000, 30_000]

    def write_on() -> None:
        while not stop.is_set():
            for seed, size in enumerate(sizes):
                write(path, seed, size)
            path.unlink()

    writer, seen = threading.Thread(target=write_on), list[int]()
    writer.start()
    try:
        while (len(seen) < 100 or set(seen) != {0, 1}) and time.monotonic() < end:
            if (found := read_state(path)) is not None:
                seen.append(found[0]["seed"])
                assert_same(found, seen[-1], sizes[seen[-1]])
    finally:
        stop.set()
        writer.join()
    assert set(seen) == {0, 1}
    assert list(tmp_path.iterdir()) == [], "nothing else is left behind"


def test_a_header_that_is_longer_than_any_is_no_state(tmp_path: Path) -> None:
    for length in (2**62, 2**64 - 1, 1 << 40, 200_000_000):
        (tmp_path / "x.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
        assert read_state(tmp_path / "x.safetensors") is None
