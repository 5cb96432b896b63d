"""Trial batches: how many of their images show their group, copy nothing and look different."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fairsynth.artifacts import Artifact, Identity
from fairsynth.config import FilterConfig, SynthesizeConfig
from fairsynth.data.near_duplicates import HASH_BYTES, LOOK_BYTES
from fairsynth.stages.synthesize import rounds as module
from fairsynth.stages.synthesize.image_plan import Source
from fairsynth.stages.synthesize.rounds import Rounds
from fairsynth.work import Ran
from tests.support.synthesize.worlds import SOURCES, A

FILTER = FilterConfig(min_probability=0.9)


def looks(number: int) -> dict[str, Any]:
    """Perceptual hash and look of a picture that is like no other with another number, and no copy that is known."""
    rng = np.random.default_rng(number)
    # The base model has learnt no image to copy: there is no score then.
    score = None if number else 0.0
    return {"phash": rng.bytes(HASH_BYTES), "look": rng.bytes(LOOK_BYTES), "copy_score": score}


def nothing(names: Sequence[str], make: Callable[[], Any]) -> Ran:
    """Runs no unit, for none is to be asked for."""
    assert list(names) == []
    return Ran()


def test_a_trial_counts_what_depicts_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(self: Rounds, name: str, plan: Callable[[], pa.Table]) -> pa.Table:
        """Every second image of the prompt, and all others but every third, show their group."""
        rows = plan().to_pylist()
        good = [i % 2 == 0 if row["route"] == "prompt" else i % 3 > 0 for i, row in enumerate(rows)]
        seen = {"constant": False, "attribute_probability": 0.9}
        return pa.Table.from_pylist(
            [
                row | seen | looks(i) | {"label_probability": 0.8 if fine else 0.4}
                for i, (row, fine) in enumerate(zip(rows, good, strict=True))
            ]
        )

    monkeypatch.setattr(module.Rounds, "_made", made)
    config = SynthesizeConfig(trial_images=12)
    artifact = Artifact(tmp_path, Identity("synthesize", 1, {}, {}))
    rounds = Rounds(nothing, artifact, config, FILTER, 0, lambda plan: pytest.fail)
    by_route = {A: {"own": SOURCES[A], "prompt": [Source("prompt", None, 0, "p", 1)]}}
    images, found = rounds.trials([(A, "own"), (A, "prompt")], by_route)
    assert images.num_rows == 24
    assert {route: tuple(trial[:2]) for (_, route), trial in found.items()} == {"own": (12, 8), "prompt": (12, 6)}


@pytest.mark.parametrize(
    ("filter_config", "right"), [(FILTER, 6), (FILTER.model_copy(update={"near_copies": False}), 12)]
)
def test_copies_of_training_images_show_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filter_config: FilterConfig, right: int
) -> None:
    def made(self: Rounds, name: str, plan: Callable[[], pa.Table]) -> pa.Table:
        """Every second image is like one that the adapter has learnt."""
        seen = {"constant": False, "attribute_probability": 0.9, "label_probability": 0.9}
        rows = [
            row | seen | looks(i) | {"copy_score": 0.9 if i % 2 else 0.6} for i, row in enumerate(plan().to_pylist())
        ]
        return pa.Table.from_pylist(rows)

    monkeypatch.setattr(module.Rounds, "_made", made)
    artifact = Artifact(tmp_path, Identity("synthesize", 1, {}, {}))
    config = SynthesizeConfig(trial_images=12)
    rounds = Rounds(nothing, artifact, config, filter_config, 0, lambda plan: pytest.fail, copy_threshold=0.8)
    _, found = rounds.trials([(A, "own")], {A: {"own": SOURCES[A]}})
    assert found[A, "own"] == (12, right, 12)


@pytest.mark.parametrize(("different", "ask", "right"), [(12, True, 12), (3, True, 3), (3, False, 12)])
def test_of_images_that_look_alike_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, different: int, ask: bool, right: int
) -> None:
    def made(self: Rounds, name: str, plan: Callable[[], pa.Table]) -> pa.Table:
        seen = {"constant": False, "attribute_probability": 0.9, "label_probability": 0.9}
        return pa.Table.from_pylist([row | seen | looks(i % different) for i, row in enumerate(plan().to_pylist())])

    monkeypatch.setattr(module.Rounds, "_made", made)
    artifact = Artifact(tmp_path, Identity("synthesize", 1, {}, {}))
    how = FILTER.model_copy(update={"near_duplicates": ask})
    rounds = Rounds(nothing, artifact, SynthesizeConfig(trial_images=12), how, 0, lambda plan: pytest.fail)
    _, found = rounds.trials([(A, "own")], {A: {"own": SOURCES[A]}})
    assert found[A, "own"] == (12, right, 12)
