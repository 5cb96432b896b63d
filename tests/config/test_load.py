"""Presets, YAML and command line to a RunConfig: which beats which, and what is said about files and words."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config, parse_overrides, preset_names
from fairsynth.errors import ConfigError
from tests.support.configs import message, write


def test_nothing_given_is_the_defaults() -> None:
    assert load_config() == RunConfig()


def test_command_line_beats_yaml_beats_preset_beats_default(tmp_path: Path) -> None:
    default, preset = load_config(), load_config(preset="demo")
    assert len({default.finetune.steps, preset.finetune.steps, 7}) == 3
    path = write(tmp_path / "c.yaml", "finetune:\n  steps: 7\n  rank: 3\n")
    config = load_config(path, "demo", {"finetune.rank": 2})
    assert config.finetune.rank == 2  # command line over YAML
    assert config.finetune.steps == 7  # YAML over preset
    assert config.finetune.alpha == preset.finetune.alpha != default.finetune.alpha  # preset over default
    assert config.finetune.max_grad_norm == default.finetune.max_grad_norm  # nobody but the default


def test_an_override_leaves_the_rest_of_its_section(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "data: {root: /a, label_names: {'0': cat}}\n")
    config = load_config(path, None, {"data.format": "waterbirds"})
    assert (config.data.root, config.data.format, config.data.label_names) == ("/a", "waterbirds", {"0": "cat"})


def test_top_level_keys_and_an_empty_file(tmp_path: Path) -> None:
    assert load_config(write(tmp_path / "c.yaml", "")) == RunConfig()
    assert load_config(write(tmp_path / "d.yaml", "seed: 4\nout: here\n")).seed == 4


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"data: [", "is not valid YAML"),
        (b"a: b: c", "is not valid YAML"),
        (b"- data\n- tune\n", "must hold sections such as 'data:' and 'tune:', not a list"),
        (b"just text", "not a str"),
        (b"data: \xff\xfe", "cannot read the config"),
    ],
)
def test_an_unreadable_config_is_refused_by_name(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    text = message(str(path))
    assert expected in text and str(path) in text


def test_a_config_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert message(str(path)) == f"cannot read the config {path}: No such file or directory"
    assert (
        message(str(tmp_path))
        == f"cannot read the config {tmp_path}: Is a directory; for a dataset's folder, 'fairsynth init {tmp_path}' writes a config"
    )


def test_yaml_cannot_make_python_objects(tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = write(tmp_path / "c.yaml", f"data: !!python/object/apply:os.mkdir [{made}]\n")
    assert "is not valid YAML" in message(path)
    assert not made.exists()


def test_an_unknown_preset_gets_a_suggestion_and_the_list() -> None:
    text = message(preset="waterbird")
    assert text.startswith("unknown preset 'waterbird' (did you mean 'waterbirds'?); presets: ")
    assert all(name in text for name in preset_names())


def test_a_preset_is_a_name_and_not_a_path() -> None:
    assert message(preset="../presets/demo").startswith("unknown preset '../presets/demo'")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--a.b", "1"], {"a.b": 1}),
        (["--a.b=1"], {"a.b": 1}),
        (["--a=", "--b", "x"], {"a": None, "b": "x"}),
        (["--a", "x=y", "--b=x=y"], {"a": "x=y", "b": "x=y"}),
        (["--a-b.c-d", "x-y"], {"a_b.c_d": "x-y"}),
        (["--a", "-1", "--b", "--c"], {"a": -1, "b": "--c"}),
        (["--a", "[x, y]", "--b", "{'0': cat}", "--c", "null"], {"a": ["x", "y"], "b": {"0": "cat"}, "c": None}),
        (["--a", "true", "--b", "0.5", "--c", "auto"], {"a": True, "b": 0.5, "c": "auto"}),
        (["--a", "1", "--a", "2"], {"a": 2}),
        (["--a", "{token} {label}"], {"a": "{token} {label}"}),  # not YAML, so it is text
        (["--out", "2024", "--data.root", "yes"], {"out": "2024", "data.root": "yes"}),  # folders stay as typed
    ],
)
def test_overrides(words: list[str], expected: dict[str, object]) -> None:
    assert parse_overrides(words) == expected


def test_an_option_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^option --tune\.trials needs a value: --tune\.trials VALUE$"):
        parse_overrides(["--seed", "1", "--tune.trials"])


@pytest.mark.parametrize("word", ["tune.trials", "-s", "extra.yaml"])
def test_a_word_that_belongs_to_no_option_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="unexpected argument"):
        parse_overrides(["--seed", "1", word, "2"])


def test_the_presets_are_those_of_the_help() -> None:
    assert preset_names() == ["celeba", "demo", "demo-flow", "utkface", "waterbirds"]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_keeps_to_the_paper(name: str) -> None:
    config = load_config(preset=name)
    assert config.finetune.generator == "clustered-dreambooth"
    assert (config.filter.text_weight, config.filter.keep) == (0.5, 0.75)
    assert config.data.root == ""
    if not name.startswith("demo"):
        assert config.classify.backbone == "microsoft/resnet-50" and config.models.dtype == "bfloat16"
        assert config.models.diffusion_revision and config.models.clip_revision and config.classify.backbone_revision
        assert len(config.data.label_names) == len(config.data.attribute_names) == 2


def test_rounded_weights_are_for_adapters_alone() -> None:
    with pytest.raises(ConfigError, match=r"frozen_weights is int8, but .* is full.*--finetune\.frozen_weights dtype"):
        load_config(None, None, {"finetune.frozen_weights": "int8", "finetune.parameters": "full"})


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config().seed = 3  # type: ignore[misc]


def test_only_a_file_that_is_alike_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 1", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / "nosuch.yaml"))
    assert "did you mean" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"did you mean 'mine\.yaml'"):
        load_config(str(tmp_path / "mien.yml"))
