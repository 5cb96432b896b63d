"""init: what it writes loads as what it was made from, runs accept it, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fairsynth.commands.init.found import of_folder
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config, preset_names
from fairsynth.preflight import check_early
from tests.support.calling import call, refused
from tests.support.data.layouts import LAYOUTS
from tests.support.datasets import tiny_folder_dataset, unchanged, write_rows


def written(tmp_path: Path, *words: str | Path) -> tuple[str, str]:
    """The file that the words make, and what is printed."""
    target = tmp_path / "config.yaml"
    code, out, err = call("init", *words, "--to", target, "--force")
    assert (code, err) == (0, "")
    return str(target), out


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("preset", preset_names())
def test_a_presets_file_is_the_preset(tmp_path: Path, preset: str, every: bool) -> None:
    path, out = written(tmp_path, "--preset", preset, *(["--all"] if every else []))
    assert load_config(path) == load_config(None, preset, {"out": f"runs/{preset}"})
    assert ("set data.root" in out) == (not preset.startswith("demo")) and f"fairsynth run {path}" in out


def test_only_what_people_change_or_what_differs_counts(tmp_path: Path) -> None:
    content = yaml.safe_load(Path(written(tmp_path, "--preset", "demo")[0]).read_text("utf-8"))
    assert content["filter"] is None and content["finetune"]["rank"] == 8
    assert "seed" not in content and content["tune"]["trials"] == 6 and "alpha" in content["finetune"]
    everything = yaml.safe_load(Path(written(tmp_path, "--preset", "demo", "--all")[0]).read_text("utf-8"))
    assert everything.keys() == RunConfig.model_fields.keys() and everything["filter"]["keep"] == 0.75


def test_every_setting_is_there_with_what_it_means(tmp_path: Path) -> None:
    text = Path(written(tmp_path, "--preset", "demo")[0]).read_text("utf-8")
    assert "  #max_rounds: 4\n" in text and "# Times that images are made before a shortfall is reported." in text
    # With every # before a setting taken away it is the whole preset, written out.
    whole = tmp_path / "whole.yaml"
    lines = (line if line.lstrip().startswith("# ") else line.replace("#", "", 1) for line in text.splitlines())
    whole.write_text("\n".join(line for line in lines), encoding="utf-8")
    assert yaml.safe_load(whole.read_text("utf-8")).keys() == RunConfig.model_fields.keys()
    assert load_config(str(whole)) == load_config(None, "demo", {"out": "runs/demo"})


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folders_file_loads_and_names_what_is_there(tmp_path: Path, name: str) -> None:
    layout, build, options = LAYOUTS[name]
    root = build(tmp_path / "data") if (tmp_path / "data").mkdir() is None else tmp_path
    asked = [word for key, value in options.items() for word in (f"--data.{key}", yaml.safe_dump(value).strip())]
    asked = [
        word.replace("\n- ", ", ").replace("- ", "[", 1) + "]" if word.startswith("- ") else word for word in asked
    ]
    with unchanged(root):
        path, _ = written(tmp_path, root, *asked)
    config = load_config(path)
    assert config.data.format == layout and config.data.root == str(root) and config.models.diffusion_revision
    assert config == of_folder(str(root), None, {f"data.{key}": value for key, value in options.items()}).config
    if not name.startswith("utkface"):  # which has a group without validation images there
        metadata = check_early(config, tmp_path / "out")
        assert metadata is not None and {e.label for e in metadata.entries} == config.data.label_names.keys()


def test_splits_that_a_dataset_lacks_are_made(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data")
    rows = [line.split(",") for line in (root / "metadata.csv").read_text().splitlines()[1:]]
    write_rows(root / "metadata.csv", ("file_name", "label", "attribute"), [(n, y, a) for n, _, y, a in rows])
    config = load_config(written(tmp_path, root)[0])
    assert config.data.split_fractions == (0.8, 0.1, 0.1) and check_early(config, tmp_path / "out")
    left = [row for row in rows if row[1] != "test"]
    write_rows(root / "metadata.csv", ("file_name", "split", "label", "attribute"), left)
    assert load_config(written(tmp_path, root)[0]).data.split_from == {"test": "val"}


def test_numbers_are_to_be_replaced_by_words(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", labels=("0", "1"), attributes=("in_door", "out_door"))
    path, out = written(tmp_path, root)
    assert "warning: label '0', label '1': numbers say nothing to a model" in out
    assert "# CHANGE THESE: numbers say nothing to a model.\n  label_names:\n    \"0\": '0'\n" in Path(path).read_text()
    assert load_config(path).data.attribute_names == {"in_door": "in door", "out_door": "out door"}


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    hostile = ("a: [b\n# c", '"\x1b[31m{label}\u202e'), ("- !!python/object:x", "null")
    root = tiny_folder_dataset(tmp_path / "a b' \"#[x]", labels=hostile[0], attributes=hostile[1])
    path, out = written(tmp_path, root)
    text = Path(path).read_text("utf-8")
    assert not {"\x1b", "\u202e"} & {*text, *out}
    config = load_config(path)
    assert config.data.root == str(root) and set(config.data.label_names) == {*hostile[0]}
    assert set(config.data.attribute_names) == {*hostile[1]}


def test_with_a_preset_its_settings_go_with_the_folders_data(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data")
    config = load_config(written(tmp_path, root, "--preset", "demo", "--seed", "3")[0])
    demo = load_config(None, "demo")
    assert config.models == demo.models and config.tune == demo.tune and config.seed == 3
    assert config.data.label_names == {"cat": "cat", "dog": "dog"} and "number" not in config.synthesize.prompt


def test_nothing_is_overwritten_and_what_is_wrong_is_told(tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    target.write_text("mine", encoding="utf-8")
    assert "is there already; give another file with --to, or overwrite it with --force" in refused(
        call("init", "--preset", "demo", "--to", target)
    )
    assert target.read_text("utf-8") == "mine"
    assert "write a config for what?" in refused(call("init"))
    assert "did you mean 'demo'?" in refused(call("init", "--preset", "dmeo", "--to", tmp_path / "x.yaml"))
    assert "does not exist" in refused(call("init", "--preset", "demo", "--to", tmp_path / "no" / "x.yaml"))
    assert "did you mean --force?" in refused(call("init", "--preset", "demo", "--forec"))
    code, out, err = call("init", tmp_path / "nothing", "--to", tmp_path / "x.yaml")
    assert (code, out) == (3, "") and "does not exist" in err and not (tmp_path / "x.yaml").exists()
    assert call("init", "--preset", "demo", "--to", target, "--force")[0] == 0 and load_config(str(target))


def test_inspect_takes_the_file(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", photos=True)
    code, out, err = call("inspect", written(tmp_path, root)[0])
    assert (code, err) == (0, "") and "a run would accept this dataset" in out and f"{root} (folder)" in out
