"""Typos: each gets a suggestion, in one line with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError
from fairsynth.preflight import check_words
from tests.support.calling import call, refused
from tests.support.datasets import tiny_folder_dataset


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("rnu --preset demo", '"run"'),
        ("--hlep", "--help"),
        ("inspect demo --jsn", "--json"),
        ("run --prest demo", "--preset"),
        ("run --prest=demo", "--preset"),
        ("predict x --rnu y", "--run"),
        ("export x --formt kohya", "--format"),
        ("export x --format koyha", '"kohya"'),
        ("run --preset dmeo", "'demo'"),
        ("run --preset demo --sed 3", "'seed'"),
        ("run --preset demo --rank 3", "'finetune.rank'"),
        ("run --preset demo --cluster.kk 3", "'cluster.k'"),
        ("run --preset demo --data.format celba", "'celeba'"),
        ("run --preset demo --synthesize.routing atuo", "'auto'"),
        ("run --preset demo --tune.methods [erm,fairsnth]", "'fairsynth'"),
        ("run --preset demo --data.split_names {a:\u00a0trian}", "'train'"),
        ("run --preset demo --synthesize.routes {low/flwer:\u00a0own}", "'low/flower'"),
        ("run --preset demo --synthesize.routes {low/flower:\u00a0onw}", "'own'"),
        ("run --preset demo --data.label_names {lw:\u00a0x}", "'low'"),
        ("run --preset demo --data.attribute_names {biulding:\u00a0x}", "'building'"),
        ("inspect demo --data.label_names {lw:\u00a0x}", "'low'"),
        ("inspect demo --data.format folder --data.options {tabel:\u00a0x}", "'table'"),
        ("bench --preset demo --bench.variants {a:\u00a0{cluster.kk:\u00a03}}", "'cluster.k'"),
        ("run demo", "--preset demo"),
        ("run preset demo", "--preset demo"),
    ],
)
def test_a_typo_gets_a_suggestion(tmp_path: Path, words: str, meant: str) -> None:
    out = [] if words.startswith(("predict", "export", "inspect", "--")) else ["--out", tmp_path / "out"]
    text = refused(call(*(word.replace("\u00a0", " ") for word in words.split(" ")), *out))
    assert f"id you mean {meant}?" in text, text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "run --preset demo --finetune.prompt --prest",
            "finetune.prompt must contain",
        ),  # a setting's value is no option
        ("run --preset demo --qqqq 1", "unknown key 'qqqq'\n"),
        (
            "run --preset demo --cluster.k five",
            "cluster.k: Input should be a valid integer or 'auto' (given: 'five')\n",
        ),
    ],
)
def test_nothing_is_suggested_where_nothing_is_near(words: str, told: str) -> None:
    assert told in refused(call(*words.split(" ")))


def test_a_file_beside_and_a_folder_get_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    assert "(did you mean 'mine.yaml'?)" in refused(call("run", tmp_path / "mien.yaml"))
    assert f"'fairsynth init {tmp_path}' writes a config" in refused(call("run", tmp_path))


def test_words_for_values_that_a_dataset_lacks_altogether_do_no_harm(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", photos=True)
    assert call("inspect", root, "--data.label_names", "{zebra: x, cat: y}")[0] == 0
    assert "(did you mean 'dog'?)" in refused(call("inspect", root, "--data.label_names", "{Dog: x, cat: y}"))
    aligned = ["--data.severity", "90%", "--data.aligned", "{ct: indoor}"]
    assert "(did you mean 'cat'?)" in call("inspect", root, *aligned)[1]


def test_parts_of_combined_attributes_and_codes_have_words() -> None:
    names = {
        "data.attribute_column": ["Male", "Young"],
        "data.attribute_names": {"Male=yes": "man", "Male=no": "woman"},
    }
    config = load_config(None, None, names | {"data.label_names": {"1": "cat"}})
    check_words(load_config(None, None, {"data.label_names": {"old": "x"}}), ["older", "young"], [])
    check_words(
        load_config(None, None, {"data.label_names": {"male": "x", "with_hat": "y"}}), ["female", "without_hat"], []
    )
    check_words(config, ["10", "11"], ["Male=yes, Young=yes", "Male=no, Young=no"])
    with pytest.raises(ConfigError, match="did you mean 'Young=yes'"):
        check_words(
            load_config(None, None, names | {"data.attribute_names": {"Yuong=yes": "x"}}), [], ["Male=yes, Young=yes"]
        )
