"""The presets of research datasets: every level of bias that figures were published for can be had without more options."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fairsynth.config.load import load_config
from fairsynth.data.dataset import levelled, load
from fairsynth.data.metadata import Entry
from fairsynth.data.severity import at_severity
from fairsynth.data.storage import Storage
from fairsynth.manifest import SPLITS

# Training images of each group: SAGE (arXiv 2609.01051), tables 5 and 6.
WATERBIRDS = {("0", "0"): 3498, ("0", "1"): 184, ("1", "0"): 56, ("1", "1"): 1057}
CELEBA = {("-1", "-1"): 71629, ("-1", "1"): 66874, ("1", "-1"): 22880, ("1", "1"): 1387}


@pytest.mark.parametrize(
    ("preset", "groups", "rare"),
    [("waterbirds", WATERBIRDS, {("0", "1"): 4, ("1", "0"): 2}), ("celeba", CELEBA, {("1", "1"): 23})],
)
def test_presets_know_which_images_go_at_a_severity(
    preset: str, groups: dict[tuple[str, str], int], rare: dict[tuple[str, str], int]
) -> None:
    images = [Entry(f"{y}{a}{i}.jpg", "train", y, a) for (y, a), n in groups.items() for i in range(n)]
    kept = at_severity(images, 0.999, 0, load_config(preset=preset).data.aligned).kept
    assert Counter((e.label, e.attribute) for e in kept) == groups | rare


@pytest.mark.parametrize(("severity", "old_men", "young_women"), [("99.9%", 1, 1), ("95%", 5, 22)])
def test_utkface_has_old_women_and_young_men_at_a_severity(
    tmp_path: Path, severity: str, old_men: int, young_women: int
) -> None:
    """As in the dataset, most men are old, too; the sizes are From Fake to Real's: 80 % of the images, then its rule."""
    sizes = {("30", "0"): 500, ("3", "0"): 100, ("30", "1"): 510, ("3", "1"): 90}
    for (age, gender), n in sizes.items():
        for i in range(n):
            (tmp_path / f"{age}_{gender}_0_2017{i:013d}.jpg.chip.jpg").write_bytes(b"")
    overrides = {"data.root": str(tmp_path), "data.severity": severity}
    data = load_config(preset="utkface", overrides=overrides).data
    level, metadata = levelled(data, load(data, Storage(data.root)))
    assert level is not None and level.aligned == {"0": "young", "1": "old"}
    kept = {split: Counter((e.label, e.attribute) for e in metadata.entries if e.split == split) for split in SPLITS}
    assert kept["train"] == {("0", "old"): old_men, ("0", "young"): 80, ("1", "old"): 408, ("1", "young"): young_women}
    assert kept["test"] == kept["val"] == {("0", "old"): 50, ("0", "young"): 10, ("1", "old"): 51, ("1", "young"): 9}
