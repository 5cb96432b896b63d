"""YAML within bounds: what is ordinary comes back as PyYAML reads it, what unfolds or nests without end is refused at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.config import yaml_text
from fairsynth.config.load import load_config, preset_names
from fairsynth.config.values import brief
from fairsynth.errors import ConfigError

leaves = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@settings(deadline=None)
@given(tree=trees)
def test_what_is_ordinary_comes_back(tree: object) -> None:
    assert yaml_text.parse(yaml.safe_dump(tree)) == tree


def test_presets_and_aliases_are_read_as_before() -> None:
    folder = Path(yaml_text.__file__).parent / "presets"
    for text in [(folder / f"{name}.yaml").read_text("utf-8") for name in preset_names()] + [
        "a: &x [1, 2]\nb: *x\n<<: {c: *x}\n"
    ]:
        assert yaml_text.parse(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
            "more than 100,000 values",
        ),
        ("a: &a [*a]\n", "inside of what it stands for"),
        ("[" * 200_000, "more than 50 deep"),
        ("- " * 200_000, "more than 50 deep"),
        ("9" * 100_000, "a number of 100,000 characters"),
        ("2001-99-99", "does not fit"),
        ("!!int words", "does not fit"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ],
)
def test_what_is_beyond_the_bounds_is_refused_at_once(text: str, why: str) -> None:
    began = time.process_time()
    with pytest.raises(yaml.YAMLError) as caught:
        yaml_text.parse(text)
    assert why in yaml_text.problem(caught.value) and time.process_time() - began < 5


def test_a_line_that_is_wrong_is_named_and_not_shown() -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml_text.parse("data:\n  root: s3://key:secret@b: x: y\n")
    assert "line 2" in yaml_text.problem(caught.value) and "secret" not in yaml_text.problem(caught.value)


def test_a_config_is_a_regular_file_of_a_config_s_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "long.yaml").write_bytes(b"# " * 600_000)
    with pytest.raises(ConfigError, match=r"pipe\.yaml is not a regular file"):
        load_config(str(tmp_path / "pipe.yaml"))
    with pytest.raises(ConfigError, match=r"has 1,200,000 bytes; at most 1,048,576 are read"):
        load_config(str(tmp_path / "long.yaml"))
    (tmp_path / "mark.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert load_config(str(tmp_path / "mark.yaml")).seed == 3


@pytest.mark.parametrize("text", ['out: "a\\0b"\n', 'data: {root: "/a\\0b"}\n', 'out: "a\\uD800b"\n'])
def test_no_setting_holds_what_no_name_of_a_file_can(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"(out|data\.root) holds (a NUL|half of a Unicode) character"):
        load_config(str(tmp_path / "c.yaml"))


def test_a_value_is_shown_in_brief() -> None:
    assert brief("abc") == "'abc'" and brief([1, 2]) == "[1, 2]" and brief({"a": None}) == "{'a': None}"
    assert len(brief("x" * 10**6)) <= 200 and len(brief([["x" * 100] * 100] * 100)) < 50_000
