"""What a config may hold: unknown keys and wrong values are refused by name, all at once, with a way out."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fairsynth.config.load import load_config, parse_overrides
from fairsynth.errors import ConfigError
from tests.support.configs import message, write


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


# Fault case 37: settings are wrong.
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
        ("seed", 2**32),
        ("seed", -1),
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


# Fault case 41: a prompt is cut, or lacks a placeholder.
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


@pytest.mark.parametrize("n", [1, 24, 100])
def test_a_share_that_no_trial_batch_can_show_is_refused(n: int) -> None:
    # The lower end of Wilson's interval for n of n: n / (n + 3.84).
    best = n / (n + 3.8415)
    near = {"synthesize.trial_images": n, "synthesize.min_shown": best - 0.001}
    assert load_config(overrides=near).synthesize.trial_images == n
    text = message(synthesize__trial_images=n, synthesize__min_shown=best + 0.001)
    assert text.startswith(f"synthesize.min_shown {best + 0.001:g} is out of reach: if all {n} images of a trial batch")
    assert f"is {best:.2f}; set a smaller share, or a larger synthesize.trial_images" in text
    # Without trial batches nothing is to reach.
    for overrides in ({"synthesize.routing": "paper", "synthesize.min_shown": 1.0}, {"synthesize.min_shown": 0}):
        assert load_config(overrides={"synthesize.trial_images": n, **overrides})
