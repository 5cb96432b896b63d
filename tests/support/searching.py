"""Small searches on packs of made-up images, in a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairsynth.artifacts import Units
from fairsynth.classify import passes
from fairsynth.classify.images import Images
from fairsynth.config import ClassifyConfig, TuneConfig
from fairsynth.stages.tune.halving import Trial
from fairsynth.stages.tune.search import Search
from tests.support.training import images

CLASSIFY = ClassifyConfig(backbone="small", image_size=32, batch_size=16, pretrain_epochs=6, finetune_epochs=2)
TUNE = TuneConfig(trials=5, grace_epochs=2, methods=("erm", "group-dro", "jtt"))


def write_pack(folder: Path, pack: Images) -> None:
    """Images as the steps write them."""
    folder.mkdir(parents=True)
    np.save(folder / "pixels.npy", np.asarray(pack.pixels))
    np.save(folder / "labels.npy", pack.labels)
    np.save(folder / "groups.npy", pack.groups)
    np.save(folder / "sizes.npy", np.array([2, 4]))


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    sizes_of = {"train": (24, 4, 8, 24), "val": (8,) * 4, "synthetic-fairsynth": (12,) * 4}
    for seed, (name, sizes) in enumerate(sizes_of.items()):
        write_pack(folder / f"pack-{name}", images(sizes, seed))
    return folder


class Quick(Search):
    """Its trials go through their images once in an epoch: over so few, strong changes take 40 passes, and teach no test more."""

    def trial(self, *how: Any, **others: Any) -> None:
        """Wherever it runs: in this process or in one of Ray's."""
        before, passes.IMAGES_PER_EPOCH = passes.IMAGES_PER_EPOCH, 1
        try:
            super().trial(*how, **others)
        finally:
            passes.IMAGES_PER_EPOCH = before


def search(packs: Path, folder: Path, tune: TuneConfig = TUNE, search_class: type[Search] = Quick) -> Any:
    return search_class(packs, Units(folder / "units"), CLASSIFY, tune, 3)


def in_turn(trials: Mapping[str, Callable[..., None]]) -> None:
    """A plain loop over trials, without Ray."""
    for trial in trials.values():
        trial(lambda figures: None, None)


def looped(one: Search) -> list[Trial]:
    """All trials of a search in a plain loop."""
    return one.run(in_turn, checkpoint_seconds=1e9)
