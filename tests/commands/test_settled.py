"""A base model that cannot be used ends a command at once, with exit code 2, before a dataset is read or anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairsynth.commands.settled import settled
from fairsynth.config.load import load_config
from fairsynth.errors import ConfigError
from tests.conftest import fairsynth
from tests.support.models.pipelines import described

SECONDS = 5.0


def spent() -> float:
    """Processor time of the processes that have ended: on a busy machine the clock says more."""
    return os.times().children_user + os.times().children_system


@pytest.mark.parametrize("command", ["run", "plan", "ingest", "bench"])
def test_another_pipeline_is_refused_in_seconds(command: str, tmp_path: Path) -> None:
    model = described(tmp_path / "video", "StableVideoDiffusionPipeline")
    out, before = tmp_path / "out", spent()
    # A dataset that is not there would be told first if it was looked at first.
    words = ("--data.root", str(tmp_path / "none"), "--models.diffusion", str(model), "--models.clip", "demo")
    done = fairsynth(command, *words, "--out", str(out), timeout=60)
    assert done.returncode == 2 and not out.exists(), done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert f"{str(model)!r} is a StableVideoDiffusionPipeline, which is not supported; give" in line
    assert "Stable Diffusion 1.x or 2.x (StableDiffusionPipeline)" in line and spent() - before < SECONDS


def test_a_licence_for_research_alone_is_refused_before_anything_is_asked_of_the_hub(tmp_path: Path) -> None:
    words = ("--preset", "demo", "--models.diffusion", "stabilityai/sd-turbo", "--out", str(tmp_path / "out"))
    done = fairsynth("run", *words, timeout=60)
    assert done.returncode == 2 and "--models.accept_licence stability-non-commercial" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_any_model_is_told(tmp_path: Path) -> None:
    def told(**given: object) -> str:
        settings = {name.replace("__", "."): value for name, value in given.items()}
        with pytest.raises(ConfigError) as caught:
            settled(load_config(None, "demo", settings))
        return str(caught.value)

    assert "does not exist" in told(models__diffusion="./nowhere") and "does not exist" in told(
        models__clip="./nowhere"
    )
    # Class images are squares.
    square = told(models__shapes="buckets", finetune__prior="images")
    assert "--finetune.prior teacher" in square and "--models.shapes square" in square
    assert "set --models.image_size 32" in told(models__image_size=30)
    odd = described(tmp_path / "odd", scheduler=["diffusers", "Euler"])
    assert "none of diffusers'" in told(models__diffusion=str(odd))
