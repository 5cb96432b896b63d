"""What fails by a damaged file says which it is and what to do; a mistake of the code stays one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from fairsynth.errors import DataError
from fairsynth.run_folder.records import diagnosed, made_again
from fairsynth.run_folder.weights import check_header


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A stage's folder with a file of each kind."""
    folder = tmp_path / "stages" / "embed-0123456789abcdef"
    (folder / "units" / "a").mkdir(parents=True)
    (folder / "artifact.json").write_text('{"a": 1}')
    pq.write_table(pa.table({"x": np.random.default_rng(0).random(2000)}), folder / "units" / "a" / "rows.parquet")
    save_file({"x": np.ones(3, np.float32)}, folder / "weights.safetensors", {"made": "here"})
    (folder / "notes.txt").write_text("{")
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36  # the head of the first page
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, flip])
@pytest.mark.parametrize("name", ["artifact.json", "units/a/rows.parquet", "weights.safetensors"])
def test_a_damaged_file_is_named(name: str, harm: object, stage: Path) -> None:
    assert callable(harm)
    if (name, harm) == ("artifact.json", flip):
        (stage / name).write_bytes(b"\xff")
    elif (name, harm) == ("weights.safetensors", flip):
        (stage / name).write_bytes(b"[]")
    else:
        harm(stage / name)
    with pytest.raises(DataError, match=re.escape(f"{stage / name} is damaged")) as caught, diagnosed(lambda: [stage]):
        raise KeyError("whatever the library says")
    assert str(caught.value).endswith("units that are there" if name == "artifact.json" else "makes what is missing")


def test_any_other_error_passes(stage: Path) -> None:
    with pytest.raises(KeyError, match="a bug"), diagnosed(lambda: [stage]):
        raise KeyError("a bug")
    cut(stage / "weights.safetensors")
    with pytest.raises(DataError, match="of the dataset"), diagnosed(lambda: [stage]):
        raise DataError("of the dataset")


def test_what_to_remove_so_that_it_is_made_again(tmp_path: Path) -> None:
    stage = tmp_path / "stages" / "tune-0123456789abcdef"
    assert made_again(stage / "trials.json").startswith(f"remove {stage / 'artifact.json'}, and")
    assert made_again(stage / "units" / "a" / "x").startswith(
        f"remove {stage / 'units' / 'a'} and {stage / 'artifact.json'}, and"
    )
    assert made_again(stage / "artifact.json").startswith("remove this file and")
    assert made_again(tmp_path / "report.json").startswith("remove it, and")


def test_headers_of_whole_files(stage: Path, tmp_path: Path) -> None:
    assert check_header(stage / "weights.safetensors") == {"made": "here"}
    save_file({}, tmp_path / "empty.safetensors")
    assert check_header(tmp_path / "empty.safetensors") == {}
