"""Presets, YAML and command line to a RunConfig, and what is said about mistakes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config, parse_overrides, preset_names
from fairsynth.errors import ConfigError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def message(path: str | None = None, preset: str | None = None, **overrides: object) -> str:
    """What load_config says about a wrong config; keys of ``overrides`` use ``__`` for the dot."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, preset, {key.replace("__", "."): value for key, value in overrides.items()})
    text = str(caught.value)
    assert "\n" not in text
    return text


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
    ("given", "meant"),
    [
        ("finetune.stesp", "finetune.steps"),
        ("clutser", "cluster"),
        ("severity", "data.severity"),
        ("finetune.learning-rate", "finetune.learning_rate"),
        ("sed", "seed"),
    ],
)
def test_an_unknown_key_of_the_command_line_gets_a_suggestion(given: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides={given: 1})
    assert str(caught.value) == f"unknown key {given!r} (did you mean {meant!r}?)"


def test_an_unknown_key_of_a_yaml_file_gets_a_suggestion(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "synthesize:\n  per_grupo: 5\n")
    assert message(path) == "unknown key 'synthesize.per_grupo' (did you mean 'synthesize.per_group'?)"


def test_an_unknown_key_that_resembles_nothing_gets_no_suggestion() -> None:
    assert message(qqqqqqqq=1) == "unknown key 'qqqqqqqq'"


def test_all_unknown_keys_are_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "fintune: {steps: 1}\ndata: {rooot: x}\n")
    text = message(path, tune__trails=3)
    for key in ("'fintune' (did you mean 'finetune'?)", "'data.rooot'", "'tune.trails' (did you mean 'tune.trials'?)"):
        assert key in text


def test_all_wrong_values_are_reported_at_once() -> None:
    text = message(finetune__steps=0, filter__keep=1.5, models__dtype="float8", cluster__k="many")
    for key in ("finetune.steps: ", "filter.keep: ", "models.dtype: ", "cluster.k: "):
        assert key in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("finetune.steps", "many"),
        ("finetune.steps", 0),
        ("finetune.steps", 2.5),
        ("finetune.learning_rate", 0),
        ("filter.keep", 0),
        ("filter.text_weight", -0.1),
        ("data.severity", 0.5),
        ("data.severity", 1),
        ("data.severity", "abc"),
        ("data.severity", "%"),
        ("data.severity", "99%%"),
        ("data.severity", True),
        ("data.unknown", "guess"),
        ("data.format", "imagenet"),
        ("synthesize.guidance", 0.5),
        ("synthesize.per_group", "smallest"),
        ("tune.methods", ["magic"]),
        ("resources.max_failures", -1),
        ("classify.flip", "perhaps"),
        ("data", 5),
        ("cluster", None),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_shown(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides={key: value})
    shown = repr(value[0] if isinstance(value, list) else value)
    assert key in str(caught.value) and f"(given: {shown})" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "ratio"),
    [
        (0.99, 0.99),
        ("0.99", 0.99),
        ("99%", 0.99),
        ("99.9%", 0.999),
        ("97.3%", 0.973),
        (" 95% ", 0.95),
        ("original", None),
        (None, None),
        ("", None),
    ],
)
def test_severity_is_a_ratio_a_percentage_or_the_original(given: object, ratio: float | None) -> None:
    assert load_config(overrides={"data.severity": given}).data.severity == ratio
    words = [] if given is None else ["--data.severity", str(given)]
    assert load_config(overrides=parse_overrides(words)).data.severity == ratio


@pytest.mark.parametrize("given", ["100%", "50%", "0%"])
def test_a_percentage_out_of_range_is_refused(given: str) -> None:
    assert "data.severity: Input should be " in message(data__severity=given)


def test_an_unknown_format_gets_a_suggestion_and_the_list() -> None:
    text = message(data__format="waterbird")
    assert "must be one of auto, demo, celeba, classfolder, folder" in text and "did you mean 'waterbirds'?" in text
    assert "did you mean" not in message(data__format="qqqq")


def test_a_column_is_one_or_several() -> None:
    for given, columns in (("sex", ("sex",)), (["sex", "age"], ("sex", "age")), ("", ()), (None, ()), ([], ())):
        assert load_config(overrides={"data.attribute_column": given}).data.attribute_column == columns


def test_words_and_pairs_have_text_as_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "data:\n  label_names: {0: land, 1: water}\n  aligned: {-1: '1'}\n")
    data = load_config(path).data
    assert data.label_names == {"0": "land", "1": "water"} and data.aligned == {"-1": "1"}


def test_the_shares_of_a_split_must_add_up() -> None:
    assert load_config(overrides={"data.split_fractions": [0.7, 0.1, 0.2]}).data.split_fractions == (0.7, 0.1, 0.2)
    text = message(data__split_fractions=[0.7, 0.2, 0.2])
    assert text == "data.split_fractions must add up to 1; they are (0.7, 0.2, 0.2)"


def test_a_discovered_attribute_needs_no_place_in_the_prompts() -> None:
    prompts = {"finetune.prompt": "a {token} {label}", "synthesize.prompt": "a {label}"}
    assert load_config(overrides=prompts | {"data.attribute": "discover"}).data.discovered == 2
    with pytest.raises(ConfigError, match=r"must contain \{attribute\}"):
        load_config(overrides=prompts)


@pytest.mark.parametrize("key", ["cluster.k", "synthesize.per_group"])
def test_numbers_and_words_are_both_accepted_where_both_are_allowed(key: str) -> None:
    word = {"cluster.k": "auto", "synthesize.per_group": "largest"}[key]
    for value in (3, word):
        section, name = key.split(".")
        assert getattr(getattr(load_config(overrides={key: value}), section), name) == value


@pytest.mark.parametrize("field", ["label", "attribute"])
@pytest.mark.parametrize("key", ["finetune.prompt", "synthesize.prompt"])
def test_prompts_must_name_label_and_attribute(key: str, field: str) -> None:
    prompt = "a {token} {label} {attribute}".replace(f"{{{field}}}", "thing")
    with pytest.raises(ConfigError) as caught:
        load_config(overrides={key: prompt})
    assert str(caught.value) == f"{key} must contain {{{field}}}; it is {prompt!r}"


def test_both_missing_placeholders_are_named_together() -> None:
    assert "must contain {label} and {attribute}" in message(synthesize__prompt="a photo")


def test_the_adapters_prompt_must_have_a_place_for_the_token() -> None:
    assert message(finetune__prompt="a {label} {attribute}").startswith("finetune.prompt must contain {token}")
    assert load_config(overrides={"synthesize.prompt": "a {label} {attribute}"}).synthesize.prompt


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"data: [", "is not valid YAML"),
        (b"a: b: c", "is not valid YAML"),
        (b"- data\n- tune\n", "must hold sections such as 'data:' and 'tune:', not a list"),
        (b"just text", "not a str"),
        (b"data: \xff\xfe", "cannot read the config"),
    ],
)
def test_an_unreadable_config_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    text = message(str(path))
    assert said in text and str(path) in text


def test_a_config_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert message(str(path)) == f"cannot read the config {path}: No such file or directory"
    assert message(str(tmp_path)) == f"cannot read the config {tmp_path}: Is a directory"


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
    with pytest.raises(ConfigError, match=r"^option --tune\.trials needs a value$"):
        parse_overrides(["--seed", "1", "--tune.trials"])


@pytest.mark.parametrize("word", ["tune.trials", "-s", "extra.yaml"])
def test_a_word_that_belongs_to_no_option_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="unexpected argument"):
        parse_overrides(["--seed", "1", word, "2"])


def test_the_presets_are_those_of_the_help() -> None:
    assert preset_names() == ["celeba", "demo", "utkface", "waterbirds"]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_keeps_to_the_paper(name: str) -> None:
    config = load_config(preset=name)
    assert config.finetune.generator == "clustered-dreambooth"
    assert (config.filter.text_weight, config.filter.keep) == (0.5, 0.75)
    assert config.data.root == ""
    if name != "demo":
        assert config.classify.backbone == "microsoft/resnet-50" and config.models.dtype == "bfloat16"
        assert config.models.diffusion_revision and config.models.clip_revision and config.classify.backbone_revision
        assert len(config.data.label_names) == len(config.data.attribute_names) == 2


@pytest.mark.parametrize("methods", [None, ["fairsynth"], ["erm", "fairsynth"]])
def test_filling_up_groups_does_not_go_with_fairsynth_and_a_way_out_is_named(methods: list[str] | None) -> None:
    given: dict[str, object] = {"synthesize__fill": True} | ({"tune__methods": methods} if methods else {})
    text = message(**given)
    assert text.startswith("synthesize.fill leaves out what the common groups have, but fairsynth ")
    ways_out = "--classify.synthetic fill", "--tune.methods '[erm, group-dro]'"
    for way in ways_out:
        # The way out does lead out, word for word.
        assert way in text
        config = load_config(overrides=parse_overrides(["--synthesize.fill", "true", *shlex.split(way)]))
        assert config.synthesize.fill
    assert "fairsynth" in load_config(overrides={"synthesize.fill": False}).tune.methods


def test_ffr_needs_images_of_the_unchanged_base_model_and_of_all_groups() -> None:
    text = message(tune__methods=["erm", "ffr"])
    assert "finetune.generator is clustered-dreambooth" in text and "--finetune.generator vanilla" in text
    assert load_config(overrides={"tune.methods": ["ffr"], "finetune.generator": "vanilla"}).tune.methods == ("ffr",)
    filled = message(tune__methods=["ffr"], finetune__generator="vanilla", synthesize__fill=True)
    assert filled.startswith("synthesize.fill leaves out what the common groups have, but ffr ")


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config().seed = 3  # type: ignore[misc]
