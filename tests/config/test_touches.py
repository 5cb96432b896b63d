"""A changed setting redoes exactly the stages that depend on it, for every setting there is."""

from __future__ import annotations

import csv
import shutil
from functools import reduce
from pathlib import Path

import pytest

from fairsynth.artifacts import STAGES
from fairsynth.config import RunConfig
from fairsynth.config.load import changed
from tests.config.naming import leaves, read_by, redone
from tests.config.touches import GIVEN, NEEDS, OTHERWISE, TOUCHES
from tests.support.datasets import tiny_folder_dataset, write_rows


# Fault case 61: each setting in turn.
def dataset(folder: Path) -> Path:
    """A folder of images with a second column of everything that a column can be named for."""
    root = tiny_folder_dataset(folder, {"train": (12, 3, 3, 12), "val": (4,) * 4, "test": (4,) * 4})
    with open(root / "metadata.csv", newline="", encoding="utf-8") as handle:
        header, *rows = csv.reader(handle)
    others = ("other_split", "other_label", "other_attribute")
    write_rows(root / "metadata.csv", (*header, *others), [(f, s, y, a, s, a, y) for f, s, y, a in rows])
    return root


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The default config on a small dataset, of which there is a copy beside."""
    folder = tmp_path_factory.mktemp("touched")
    root = dataset(folder / "data")
    shutil.copytree(root, folder / "moved")
    return changed(RunConfig(), {"data.root": str(root), "data.format": "folder", "out": str(folder / "out")})


def pair(config: RunConfig, name: str) -> tuple[RunConfig, RunConfig]:
    """Two configs that differ in one setting: the table's value, or the default where it has the table's already."""
    config, value = changed(config, GIVEN.get(name, {})), TOUCHES[name][0]
    if name == "data.root":
        value = str(Path(config.data.root).with_name(str(value)))
    other = changed(config, {name: value})
    if other == config:
        other = changed(config, {name: reduce(getattr, name.split("."), RunConfig())})
    assert other != config
    return config, other


def built_on(read: set[str], needs: dict[str, str]) -> set[str]:
    """The stages of ``read``, and all that build on them."""
    found = set(read)
    for stage in STAGES:
        found |= {stage} if found.intersection(needs[stage].split()) else set()
    return found


def test_every_setting_is_in_the_table() -> None:
    assert sorted(leaves()) == sorted(TOUCHES)
    assert {name for _, others in OTHERWISE.values() for name in others} <= TOUCHES.keys()


@pytest.mark.parametrize("case", OTHERWISE)
def test_a_changed_setting_renames_the_stages_that_read_it_and_no_other(
    case: str, usual: RunConfig, tmp_path: Path
) -> None:
    settings, otherwise = OTHERWISE[case]
    config, wrong = changed(usual, settings), {}
    for name, (_, usually) in TOUCHES.items():
        stages = otherwise.get(name, usually)
        if stages is None:
            continue
        found = read_by(*pair(config, name), tmp_path)
        if found != set(stages.split()):
            wrong[name] = " ".join(sorted(found, key=STAGES.index))
    assert wrong == {}


def test_what_is_redone_is_what_builds_on_it(usual: RunConfig, tmp_path: Path) -> None:
    for name, (_, stages) in TOUCHES.items():
        config, other = pair(usual, name)
        discovered = {"tune": f"{NEEDS['tune']} cluster"} if other.data.attribute == "discover" else {}
        assert redone(config, other, tmp_path) == built_on(set(stages.split()), NEEDS | discovered), name


def test_classifiers_that_see_real_images_alone_outlive_changes_of_the_synthetic_ones(
    usual: RunConfig, tmp_path: Path
) -> None:
    config, needs = changed(usual, {"tune.methods": ["erm", "group-dro"]}), NEEDS | {"tune": "ingest"}
    for name in ("embed.unit_size", "cluster.k", "finetune.rank", "synthesize.prompt", "classify.flip"):
        read = set(TOUCHES[name][1].split())
        assert redone(*pair(config, name), tmp_path) == built_on(read, needs), name
        assert "tune" in redone(*pair(usual, name), tmp_path), name
