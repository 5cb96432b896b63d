"""What inspect says of a table with columns of its own where a word, a column, a table or a folder is misspelt."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.calling import call
from tests.support.data.own_columns import READING, zoo


def inspected(root: Path, **settings: object) -> tuple[int, str, str]:
    given = {**READING, "split_column": "part", **settings}
    words = [
        word
        for key, value in given.items()
        for word in (f"--data.{key}", yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n"))
    ]
    return call("inspect", root, *words)


def test_a_misspelt_split_is_the_only_problem_and_its_word_is_suggested(tmp_path: Path) -> None:
    code, out, _ = inspected(zoo(tmp_path / "zoo", ("train", "validaton", "test")))
    problems = [line for line in out.splitlines() if line.startswith("problem:")]
    assert code == 3 and len(problems) == 1 and "did you mean 'validation'?" in problems[0]
    assert "--data.split_names '{validaton: val}'" in problems[0]
    assert inspected(tmp_path / "zoo", split_names={"validaton": "val"})[0] == 0


def test_a_word_like_no_split_is_left_out_by_hand(tmp_path: Path) -> None:
    _, out, _ = inspected(zoo(tmp_path / "zoo", ("train", "val", "test", "text")))
    assert "split is 'text'; allowed:" in out and "{text: drop}" in out


def test_inspect_does_not_send_people_to_itself(tmp_path: Path) -> None:
    root = zoo(tmp_path / "zoo")
    (root / "pics" / "000.png").write_bytes(b"no image")
    code, out, _ = inspected(root)
    assert code == 3 and "cannot be used" in out and "fairsynth inspect" not in out and "mend them" in out


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"label_column": "specis"}, ["did you mean 'species'?", "needed: img, specis, place, part\n"]),
        (
            {"options": {"table": "labls.csv", "file_column": "img"}},
            ["the table 'labls.csv' is not in", "did you mean 'labels.csv'?", "tables there: labels.csv"],
        ),
        (
            {"options": {"table": "labels.csv", "file_column": "species"}},
            ["column 'species' of", "names no files", "column 'img' does: --data.options.file_column img"],
        ),
    ],
)
def test_a_wrong_name_is_told_with_the_right_one(tmp_path: Path, settings: dict[str, object], told: list[str]) -> None:
    code, _, err = inspected(zoo(tmp_path / "zoo"), **settings)
    assert code == 3 and all(part in err for part in told), err


def test_a_folder_that_is_not_there_is_like_one_beside_it(tmp_path: Path) -> None:
    zoo(tmp_path / "zoo")
    for command in ("inspect", "init"):
        code, _, err = call(command, tmp_path / "zooo")
        assert code == 3 and "(did you mean 'zoo'?)" in err and "--data.root" not in err
