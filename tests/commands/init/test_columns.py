"""A table with columns of its own: the hint names them, init guesses them, and no split that is there is made anew."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fairsynth.config import DataConfig
from fairsynth.config.load import load_config
from fairsynth.data.dataset import load, survey
from fairsynth.data.storage import Storage
from fairsynth.errors import DataError
from fairsynth.manifest import SPLITS
from tests.support.calling import call
from tests.support.data.own_columns import READING, zoo

TABLE = "{table: labels.csv}"


def made(root: Path, **settings: object) -> DataConfig:
    return DataConfig.model_validate({"root": str(root), **READING, **settings})


def test_the_hint_is_a_command_with_label_and_attribute_to_choose(tmp_path: Path) -> None:
    root = zoo(tmp_path / "zoo")
    code, _, err = call("init", root, "--to", tmp_path / "a.yaml")
    assert code == 3 and "--data.split_column part" in err and "COLUMN: one of species, place" in err
    hint = err.split("labels.csv names the images: ")[1].split(" (COLUMN")[0]
    words = shlex.split(hint.replace("COLUMN", "species", 1).replace("COLUMN", "place"))
    assert call("init", root, "--to", tmp_path / "a.yaml", *words)[0] == 0
    config = load_config(str(tmp_path / "a.yaml")).data
    assert config.split_column == "part" and config.split_fractions is None
    counts = [sum(e.split == split for e in load(config, Storage(str(root))).entries) for split in SPLITS]
    assert counts == [12, 12, 12]


def test_init_guesses_the_columns_and_says_so(tmp_path: Path) -> None:
    root, target = zoo(tmp_path / "zoo"), tmp_path / "a.yaml"
    code, out, err = call("init", root, "--to", target, "--data.format", "folder", "--data.options", TABLE)
    assert (code, err) == (0, "") and "data.label_column 'species', data.attribute_column 'place'" in out
    data = load_config(str(target)).data
    assert (data.label_column, data.attribute_column, data.split_column) == ("species", ("place",), "part")
    assert data.options["file_column"] == "img" and target.read_text("utf-8").count("GUESSED") == 4
    given = ("--data.label_column", "place")
    assert (
        call("init", root, "--to", target, "--force", "--data.format", "folder", "--data.options", TABLE, *given)[0]
        == 0
    )
    assert load_config(str(target)).data.attribute_column == ("species",)


def test_init_asks_where_more_columns_could_be_meant(tmp_path: Path) -> None:
    root = zoo(tmp_path / "zoo")
    lines = (root / "labels.csv").read_text("utf-8").splitlines()
    more = [f"{line},{'season' if i == 0 else i % 2}" for i, line in enumerate(lines)]
    (root / "labels.csv").write_text("\n".join(more) + "\n", encoding="utf-8")
    code, _, err = call("init", root, "--to", tmp_path / "a.yaml", "--data.format", "folder", "--data.options", TABLE)
    assert code == 3 and "it has: species, place, season" in err and not (tmp_path / "a.yaml").exists()


@pytest.mark.parametrize("fractions", [None, [0.6, 0.2, 0.2]])
@pytest.mark.parametrize("words", [("train", "validation", "test"), ("training", "validaton", "testing")])
def test_splits_of_another_column_are_not_made_anew_in_silence(
    tmp_path: Path, words: tuple[str, ...], fractions: list[float] | None
) -> None:
    root = zoo(tmp_path / "zoo", words)
    with pytest.raises(DataError, match=r"^column 'part' looks like splits .*--data.split_column part uses it"):
        load(made(root, split_fractions=fractions), Storage(str(root)))
    # Who says that no column is the split's gets a new one.
    anew = survey(made(root, split_fractions=[0.6, 0.2, 0.2], split_column=None), Storage(str(root)))
    assert not anew.problems and any("made with shares" in remark for remark in anew.remarks)


def test_a_label_that_is_a_word_for_splits_is_no_split(tmp_path: Path) -> None:
    root = zoo(tmp_path / "zoo")
    metadata = survey(made(root, label_column="part", split_fractions=[0.6, 0.2, 0.2]), Storage(str(root)))
    assert not metadata.problems


def test_init_takes_the_splits_that_are_there(tmp_path: Path) -> None:
    root, target = zoo(tmp_path / "zoo"), tmp_path / "a.yaml"
    asked = ("--data.format", "folder", "--data.options", "{table: labels.csv, file_column: img}")
    columns = ("--data.label_column", "species", "--data.attribute_column", "place")
    code, out, _ = call("init", root, "--to", target, *asked, *columns)
    assert code == 0 and "data.split_column 'part'" in out
    assert load_config(str(target)).data.split_fractions is None
