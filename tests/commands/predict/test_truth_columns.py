"""predict --truth knows the columns of the run's own dataset: file names, label, attribute, split."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.commands.predict.truth import Known, read_truth
from fairsynth.config import DataConfig
from tests.support.data.own_columns import READING, zoo

OF_RUN = DataConfig.model_validate({**READING, "split_column": "part"}).model_dump(mode="json")


@pytest.mark.parametrize("what", ["labels.csv", ""])
def test_a_table_and_a_folder_like_the_runs_own_are_read(tmp_path: Path, what: str) -> None:
    root = zoo(tmp_path / "zoo")
    truth = read_truth(f"{root}/{what}".rstrip("/"), DataConfig(), OF_RUN)
    assert len(truth.known) == 36
    assert truth.known["pics/000.png"] == Known("crab", "beach", "train")
    assert truth.known["pics/012.png"] == Known("crab", "beach", "val")
