"""A run whose prompts would be cut ends before a GPU is used; one that makes no images has no prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fairsynth.config.load import load_config
from fairsynth.engine.session import Session
from fairsynth.pipeline import STAGES, through
from fairsynth.stages.context import Context
from tests.support.calling import call
from tests.support.datasets import tiny_folder_dataset

LABELS = ("gull", "Black_footed_Albatross_of_the_ocean")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny_folder_dataset(tmp_path / "data", labels=LABELS, photos=True)


class Reached(Exception):
    """Workers are asked for."""


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def reached(*_: object) -> None:
        raise Reached

    monkeypatch.setattr(Session, "connect", reached)
    return reached


def test_a_run_with_long_words_is_refused_after_ingest(root: Path, tmp_path: Path, no_workers: object) -> None:
    arguments = ("run", "--preset", "demo", "--out", tmp_path / "out", "--data.format", "folder", "--data.root", root)
    code, out, err = call(*arguments)
    assert code == 3 and out.startswith("ingest") and out.count("\n") == 1
    assert err.startswith("fairsynth: the prompt 'a photo of a Black_footed_Albatross_of_the_ocean number on a indoor'")
    assert "data.label_names" in err and not list((tmp_path / "out" / "stages").glob("embed-*/units/*"))
    code, _, err = call(*arguments, "--data.label_names", "{Black_footed_Albatross_of_the_ocean: albatross}")
    assert code == 1 and "Reached" in err, "with a shorter word it goes on"


@pytest.mark.parametrize("stage", ["embed", "finetune", "synthesize"])
def test_every_stage_that_a_prompt_is_for_looks_first(
    stage: str, root: Path, tmp_path: Path, no_workers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"fairsynth.stages.{stage}.step.check_prompts", no_workers)
    config = load_config(None, "demo", {"data.format": "folder", "data.root": str(root), "out": str(tmp_path / "out")})
    context = Context(config, tmp_path / "out", Session(config.resources))
    through(context, "ingest", lambda line: None)
    artifact = context.artifact(stage, 1, ("ingest",), {})
    artifact.open()
    with pytest.raises(Reached):
        STAGES[stage].make(context, artifact)


def test_where_no_images_are_made_long_words_are_no_matter(root: Path, tmp_path: Path, no_workers: object) -> None:
    """As in a bench of real images alone, where attributes are discovered and so images embedded."""
    settings = {"data.format": "folder", "data.root": str(root), "out": str(tmp_path / "out")}
    config = load_config(None, "demo", {**settings, "data.attribute": "discover", "tune.methods": ["erm"]})
    context = Context(config, tmp_path / "out", Session(config.resources))
    with pytest.raises(Reached):
        through(context, "evaluate", lambda line: None)
    assert list((tmp_path / "out" / "stages").glob("embed-*/plan.parquet")), "embed was to begin"
