"""The worlds: groups as promised, no source in two splits, and attributes that show whatever the label."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.worlds.__main__ import main
from benchmarks.worlds.skeleton import skeleton
from benchmarks.worlds.worlds import JUDGE, SETTLE, WORLDS
from benchmarks.worlds.write import write
from fairsynth.commands.bench.grid import cells
from fairsynth.config import DataConfig
from fairsynth.config.load import load_config, parse_overrides
from fairsynth.data.readers import folder
from fairsynth.data.severity import at_severity
from fairsynth.data.storage import Storage
from fairsynth.groups import Group
from fairsynth.prompts import fill

# Validation images of each group.
VALIDATION = {
    **{"tint": 40, "texture": 30, "corner": 50, "position": 60},
    **{"thickness": 40, "frame": 50, "blur": 60, "many": 30, "noisy": 50},
}
SIZE = 0.3
Read = Callable[[str], tuple[Path, list[dict[str, str]]]]
each_world = pytest.mark.parametrize("name", WORLDS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """A smaller world of each name, written once: its folder and the rows of its table."""
    root = tmp_path_factory.mktemp("worlds")

    @cache
    def read(name: str) -> tuple[Path, list[dict[str, str]]]:
        world = write(root / name, WORLDS[name], size=SIZE)
        with open(world / "metadata.csv", encoding="utf-8", newline="") as handle:
            return world, list(csv.DictReader(handle))

    return read


def _group(row: dict[str, str]) -> tuple[str, str]:
    return row["label"], row["attribute"]


def _files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.*"))}


def _pixels(root: Path, rows: list[dict[str, str]]) -> NDArray[np.float32]:
    return np.stack([np.asarray(Image.open(root / row["file_name"]), np.float32) for row in rows]) / 255


def test_four_worlds_settle_and_five_judge() -> None:
    assert Counter(world.role for world in WORLDS.values()) == {SETTLE: 4, JUDGE: 5}


@each_world
def test_a_whole_world_has_the_promised_counts(name: str) -> None:
    world, counts = WORLDS[name], WORLDS[name].counts()
    every = {(label, attribute) for label in world.shows for attribute in world.attributes}
    assert counts["val"] == dict.fromkeys(every, VALIDATION[name])
    assert counts["test"] == dict.fromkeys(every, 50 if name == "many" else 100)
    assert counts["train"].keys() == every - world.absent
    for label, attribute in world.aligned.items():
        others = [n for (y, a), n in counts["train"].items() if y == label and a != attribute]
        aligned = counts["train"][label, attribute]
        assert aligned == {"many": 100, "texture": 200}.get(name, 300)
        assert math.ceil(aligned / 9) <= sum(others) <= 0.13 * aligned and max(others) - min(others) <= 1


def test_two_groups_of_many_are_absent_from_training_alone(written: Read) -> None:
    rows = written("many")[1]
    assert len(WORLDS["many"].absent) == 2
    for split, n in (("train", 0), ("val", 9), ("test", 15)):
        groups = Counter(_group(row) for row in rows if row["split"] == split)
        assert {groups[group] for group in WORLDS["many"].absent} == {n}


@each_world
def test_what_is_written_has_the_counts(written: Read, name: str) -> None:
    root, rows = written(name)
    told = json.loads((root / "world.json").read_text("utf-8"))
    found = Counter((row["split"], *_group(row)) for row in rows)
    assert {(c["split"], c["label"], c["attribute"]): c["n"] for c in told["counts"]} == found
    assert told["role"] == WORLDS[name].role and told["seed"] == 0
    for split, groups in WORLDS[name].counts(SIZE).items():
        if split != "train" or not WORLDS[name].flipped:
            assert {(y, a): n for (s, y, a), n in found.items() if s == split} == groups
    assert {_pixels(root, [row]).shape for row in rows[::50]} == {(1, 32, 32, 3)}


@each_world
def test_labels_tell_what_is_shown_except_for_the_promised_noise(written: Read, name: str) -> None:
    world, wrong, total = WORLDS[name], Counter[str](), Counter[str]()
    for row in written(name)[1]:
        total[row["split"]] += 1
        wrong[row["split"]] += row["shows"] not in world.shows[row["label"]]
    expected = round(total["train"] * (0.1 if name == "noisy" else 0))
    assert (wrong["train"], wrong["val"], wrong["test"]) == (expected, 0, 0)


@each_world
def test_splits_share_no_source_and_no_picture(written: Read, name: str) -> None:
    root, rows = written(name)
    sources = {split: {r["source"] for r in rows if r["split"] == split} for split in ("train", "val", "test")}
    if name == "texture":
        assert sources == {"train": {""}, "val": {""}, "test": {""}}, "drawn from nothing"
    else:
        together = set.union(*sources.values())
        assert len(together) == sum(map(len, sources.values())) and "" not in together
    assert len({pixels.tobytes() for pixels in _pixels(root, rows)}) == len(rows)


@each_world
def test_the_reader_reads_it_and_severity_can_be_raised(written: Read, name: str) -> None:
    root, rows = written(name)
    entries = folder.read(Storage(str(root)), DataConfig(format="folder", root=str(root))).entries
    assert [(e.path, e.split, e.label, e.attribute) for e in entries] == [
        (r["file_name"], r["split"], *_group(r)) for r in rows
    ]
    for ratio in (0.9, 0.95, 0.99, 0.999):
        level = at_severity(entries, ratio, seed=0)
        kept = Counter((e.label, e.attribute) for e in level.kept if e.split == "train")
        assert level.aligned == WORLDS[name].aligned
        for label, attribute in level.aligned.items():
            conflicting = sum(n for (y, a), n in kept.items() if y == label and a != attribute)
            assert conflicting == math.ceil(round(kept[label, attribute] * (1 - ratio) / ratio, 9))


@each_world
def test_the_prompts_name_label_and_attribute(name: str) -> None:
    world = WORLDS[name]
    config = load_config(preset="demo", overrides=parse_overrides(world.arguments))
    for label, attribute in world.aligned.items():
        for template in (config.finetune.prompt, config.synthesize.prompt):
            words = fill(template, config.data, Group(label, attribute), "sks").split()
            assert {label, attribute} <= set(words)


@pytest.mark.parametrize("name", ["tint", "texture", "corner", "frame"])
def test_a_seed_gives_equal_bytes_and_another_other_pictures(tmp_path: Path, name: str) -> None:
    first, again, other = (
        _files(write(tmp_path / str(n), WORLDS[name], seed, size=0.05)) for n, seed in enumerate((3, 3, 4))
    )
    assert first == again
    assert first.keys() == other.keys() and not {p for p in first if p.endswith(".png") and first[p] == other[p]}


def test_a_world_that_is_there_stays_and_nothing_else_is_taken_for_it(tmp_path: Path) -> None:
    first = write(tmp_path / "tint", WORLDS["tint"], size=0.01)
    before = _files(first)
    assert write(first, WORLDS["tint"], size=0.01) == first
    with pytest.raises(FileExistsError, match="something else than tint of seed 1"):
        write(first, WORLDS["tint"], seed=1, size=0.01)
    assert _files(tmp_path) == {f"tint/{path}": content for path, content in before.items()}


def test_the_command_writes_the_named_worlds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--out", str(tmp_path / "new"), "--size", "0.01", "tint", "many"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bench.yaml", "many", "tint"]
    assert capsys.readouterr().out.split() == [str(tmp_path / "new" / name) for name in ("tint", "many", "bench.yaml")]
    config = load_config(str(tmp_path / "new" / "bench.yaml"), "demo")
    assert next(cell.dataset for cell in cells(config)) == "tint" and set(config.bench.datasets) == {"tint", "many"}
    assert "ink" in config.bench.datasets["tint"]["finetune.prompt"]


def test_a_bad_name_is_told_with_the_names_that_are_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--out", str(tmp_path), "tint", "hue"])
    assert end.value.code == 2 and not [*tmp_path.iterdir()]
    assert capsys.readouterr().err.endswith(f"error: no world is named hue; the worlds are {', '.join(WORLDS)}\n")


def _features(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours, coarse light and detail, spectrum, and what is in the corners whichever corner it is in."""
    grey, chroma = picture.mean(-1), np.ptp(picture, axis=-1)
    blocks = grey.reshape(4, 8, 4, 8)
    spectrum = np.log1p(np.abs(np.fft.rfft2(grey - grey.mean())))[:16:2, :16:2]
    steps = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
    folded = (chroma + chroma[::-1] + chroma[:, ::-1] + chroma[::-1, ::-1])[:12, :12].reshape(6, 2, 6, 2).mean((1, 3))
    hues = picture.mean((0, 1)) - picture.mean()
    ink = picture[chroma >= np.quantile(chroma, 0.9)].mean(0)
    parts = [picture.std((0, 1)), hues, ink, blocks.mean((1, 3)), blocks.std((1, 3)), spectrum, steps, folded]
    return np.concatenate([np.ravel(part) for part in parts])


@each_world
def test_the_attribute_shows_within_every_label(written: Read, name: str) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    root, rows = written(name)
    for label in WORLDS[name].shows:
        its = [row for row in rows if row["label"] == label and row["split"] != "train"]
        features = np.stack([_features(picture) for picture in _pixels(root, its)])
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        accuracy = cross_val_score(probe, features, [row["attribute"] for row in its], cv=5).mean()
        assert accuracy >= 1 / len(WORLDS[name].attributes) + 0.2


def test_a_skeleton_is_thin_and_keeps_the_loop() -> None:
    from scipy.ndimage import binary_erosion, label

    y, x = np.mgrid[:40, :40] - 19.5
    ring = (np.hypot(y, x) < 15) & (np.hypot(y, x) > 8)
    thin = skeleton(ring)
    assert (label(thin, np.ones((3, 3)))[1], label(~thin)[1]) == (1, 2)
    assert 0 < thin.sum() < 90 and not binary_erosion(thin, np.ones((2, 2))).any()
    bar = np.pad(np.ones((5, 30), bool), 5)
    assert skeleton(bar).sum(0).max() == 1 and skeleton(bar)[7].sum() > 20
