"""Cells of several datasets: their settings, kinds of validation, and what a repetition draws anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fairsynth.commands.bench.grid import Cell, cells
from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.data.dataset import Dataset
from fairsynth.data.metadata import Entry
from fairsynth.demo.dataset import build
from fairsynth.errors import ConfigError
from fairsynth.manifest import TRAIN
from tests.support.calling import call, refused
from tests.support.datasets import tiny_folder_dataset, write_rows

TINT = {
    "data.root": "worlds/tint",
    "finetune.prompt": "a {token} {label} sign in {attribute}",
    "synthesize.prompt": "a {label} sign in {attribute}",
    "data.label_names": {"0": "circle", "1": "cross"},
}


def base(**bench: object) -> RunConfig:
    few = {"methods": ["erm", "fairsynth"], "generators": ["vanilla"]}
    return load_config(None, "demo", {f"bench.{name}": value for name, value in (few | bench).items()})


def configs(config: RunConfig) -> list[tuple[Cell, RunConfig]]:
    return [(cell, cell.config(config)) for cell in cells(config)]


def test_each_cell_exists_for_each_dataset_at_each_level() -> None:
    found = cells(base(datasets={"tint": TINT, "own": {}}, severities=["95%", "99%"], seeds=2))
    assert [(c.level, c.repetition, c.dataset, c.variant) for c in found] == [
        (level, repetition, dataset, variant)
        for level in ("95 %", "99 %")
        for repetition in (0, 1)
        for dataset in ("tint", "own")
        for variant in ("", "vanilla")
    ]
    assert {c.dataset for c in cells(base())} == {""}


def test_a_dataset_brings_its_settings_and_leaves_the_others() -> None:
    config = base(datasets={"tint": TINT, "own": {}, "named": TINT | {"data.format": "folder", "seed": 40}})
    (_, real), (_, tint), (_, own), _, (_, named), _ = configs(config)
    assert (tint.data.root, tint.finetune.prompt) == ("worlds/tint", TINT["finetune.prompt"])
    assert tint.data.label_names == {"0": "circle", "1": "cross"} and tint.tune.methods == ("fairsynth",)
    # A dataset in a folder is not the built-in one that the preset names.
    assert (tint.data.format, named.data.format) == ("auto", "folder")
    assert (real.seed, own.seed, named.seed) == (0, 0, 40)
    without = {"bench", "data", "seed", "tune"}
    assert own.model_copy(update={"tune": config.tune}) == config
    assert named.model_dump(exclude=without | {"finetune", "synthesize"}) == config.model_dump(
        exclude=without | {"finetune", "synthesize"}
    )
    folder = load_config(None, "demo", {"data.format": "parquet", "bench.datasets": {"tint": TINT}})
    assert configs(folder)[0][1].data.format == "parquet"


def test_whole_unets_of_one_dataset_leave_its_lora_to_adapters() -> None:
    config = base(datasets={"tint": TINT | {"finetune.parameters": "full"}}, generators=["lora", "dreambooth"])
    assert [own.finetune.parameters for _, own in configs(config)][1:] == ["adapter", "full"]


def test_biased_validation_doubles_the_cells_and_original_has_none() -> None:
    found = configs(base(severities=["original", "95%"], validation=["given", "biased"], methods=["erm"]))
    assert [(c.level, c.validation, own.data.severity_validation) for c, own in found] == [
        ("original", "given", False),
        ("95 %", "given", False),
        ("95 %", "biased", True),
    ]
    # What the config says of validation stays, where nothing else is asked for.
    config = load_config(None, "demo", {"data.severity_validation": True, "bench.severities": ["95%"]})
    assert all(own.data.severity_validation for _, own in configs(config))


@pytest.mark.parametrize(
    ("datasets", "expected"),
    [
        ({"": TINT}, "'' is no name for a dataset"),
        ({"\u200b": TINT}, "is no name for a dataset"),
        ({"tint": {"data.roott": "x"}}, "dataset 'tint': unknown key 'data.roott' (did you mean 'data.root'?)"),
        ({"tint": {"synthesize.prompt": "a {label}"}}, "dataset 'tint': synthesize.prompt must contain"),
        ({"tint": {"data": {"root": "x"}}}, "'tint' sets 'data'; settings are written section.key"),
        ({"tint": {"data.severity": 0.9}}, "the same for all datasets; set it for the whole bench: bench.severities"),
        ({"tint": {"tune.methods": ["erm"]}}, "bench.methods"),
        ({"tint": {"bench.seeds": 3}}, "'tint' sets 'bench.seeds', which is the same for all datasets"),
        ({"tint": {"out": "elsewhere"}}, "'tint' sets 'out'"),
        ({"tint": "worlds/tint"}, "bench.datasets.tint"),
    ],
)
def test_impossible_settings_of_a_dataset_are_refused(datasets: Mapping[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs(base(datasets=datasets))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--bench.validation", "[biased]"], "at original nothing is biased"),
        (["--bench.validation", "[given, given]"], "bench.validation names something twice"),
        (["--bench.validation", "[biassed]"], "bench.validation"),
        (["--bench.datasets", "{tint: {synthesize.routes: {low/moon: prompt}}}"], "dataset 'tint': synthesize.routes"),
    ],
)
def test_nothing_runs_before_all_settings_are_looked_at(arguments: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in refused(call("bench", "--preset", "demo", "--out", tmp_path / "out", *arguments))
    assert not (tmp_path / "out").exists()


def kept(config: RunConfig) -> tuple[set[str], set[str]]:
    """Paths of the aligned and of the rare training images."""
    level, metadata = Dataset(config.data).levelled
    assert level is not None
    train = [entry for entry in metadata.entries if entry.split == TRAIN]

    def aligned(entry: Entry) -> bool:
        return level.aligned[entry.label] == entry.attribute

    return {e.path for e in train if aligned(e)}, {e.path for e in train if not aligned(e)}


def test_a_repetition_keeps_other_images_of_rare_groups_and_the_first_is_the_configs(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", {"train": (40, 30, 30, 40), "val": (2,) * 4, "test": (2,) * 4})
    config = base(datasets={"a": {"data.root": str(root)}}, severities=["90%"], seeds=3, methods=["erm"])
    found = [own for _, own in configs(config)]
    (common, first), (common_too, second), (_, third) = map(kept, found)
    assert common == common_too and len(common) == 80
    assert len(first) == len(second) == len(third) == 10
    assert first != second != third != first
    alone = load_config(None, "demo", {"data.root": str(root), "data.format": "folder", "data.severity": 0.9})
    assert kept(alone) == (common, first)


def test_a_repetition_splits_a_dataset_without_a_split_anew(tmp_path: Path) -> None:
    root = tiny_folder_dataset(tmp_path / "data", {"train": (20, 20, 20, 20)})
    rows = [line.split(",") for line in (root / "metadata.csv").read_text().splitlines()]
    write_rows(root / "metadata.csv", *([rows[0][0], *rows[0][2:]], [[row[0], *row[2:]] for row in rows[1:]]))
    settings = {"data.root": str(root), "data.split_fractions": [0.5, 0.25, 0.25]}
    found = [own for _, own in configs(base(datasets={"a": settings}, seeds=2, methods=["erm"]))]
    first, second = ({e.path: e.split for e in Dataset(own.data).metadata.entries} for own in found)
    assert first.keys() == second.keys() and first != second
    assert sorted(first.values()) == sorted(second.values())


def test_a_repetition_draws_the_built_in_dataset_anew() -> None:
    (_, one), (_, other) = configs(base(seeds=2, methods=["erm"], severities=["95%"]))
    assert one.seed == 0 != other.seed
    first, second = (build(0.95, own.seed) for own in (one, other))
    for split in ("train", "test"):
        digits = [{i.source for i in images if i.split == split} for images in (first, second)]
        assert digits[0] != digits[1]
    # A digit that is rare in both stands on another part of the photograph.
    pixels = [{(i.source, i.attribute): i.pixels.tobytes() for i in images} for images in (first, second)]
    both = pixels[0].keys() & pixels[1].keys()
    assert len(both) > 100 and all(pixels[0][key] != pixels[1][key] for key in both)


def seeds(config: RunConfig) -> tuple[int, int, int]:
    return config.seed, config.data.severity_seed, config.data.split_seed


def test_benches_of_other_seeds_share_no_repetition_and_the_first_is_the_runs() -> None:
    drawn = []
    for seed in range(4):
        own = {"seed": seed, "data.severity_seed": seed + 20, "data.split_seed": -seed}
        config = load_config(
            None, "demo", {**own, "bench.seeds": 6, "bench.methods": ["erm"], "bench.severities": ["95%"]}
        )
        found = [seeds(cell) for _, cell in configs(config)]
        assert found[0] == (seed, seed + 20, -seed) and found == [seeds(cell) for _, cell in configs(config)]
        drawn += found
    for part in zip(*drawn, strict=True):
        assert len({*part}) == 24 and max(part) < 2**32, "torch's generators take 32 bits"


def test_a_dataset_with_a_seed_of_its_own_has_repetitions_of_its_own() -> None:
    found = configs(base(datasets={"own": {}, "named": {"seed": 40}}, seeds=2, methods=["erm"]))
    (first, second), (named, again) = ([own.seed for c, own in found if c.dataset == name] for name in ("own", "named"))
    assert (first, named) == (0, 40) and len({first, second, named, again}) == 4
