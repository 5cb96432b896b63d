"""What learnt from images of people is marked, and exported only if one asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairsynth.artifacts import Artifact, Counts, Identity
from fairsynth.config.load import load_config
from fairsynth.exports.model_card import model_card
from fairsynth.exports.terms import of_people
from tests.support.calling import call, refused


@pytest.mark.parametrize("form", ["kohya", "onnx"])
@pytest.mark.parametrize(
    ("layout", "people"), [("celeba", True), ("utkface", True), ("waterbirds", False), ("folder", False)]
)
def test_faces_are_left_out_unless_asked_for(layout: str, people: bool, form: str, tmp_path: Path) -> None:
    artifact = Artifact(tmp_path, Identity("ingest", 1, {}, {}))
    artifact.open()
    artifact.finish(Counts(), 1.0, layout=layout)
    told = f"of {tmp_path} learnt from images of people ({layout}) and may reveal them, so export leaves them out"
    line = refused(call("export", tmp_path, "--format", form))
    assert (told in line and "--sensitive" in line) if people else "people" not in line
    # There is nothing to export, which is said once one has asked for it.
    assert "people" not in refused(call("export", tmp_path, "--format", form, "--sensitive"))
    assert of_people(layout) == people


def test_their_card_says_so() -> None:
    config = load_config(preset="demo")
    assert "- sensitive\n" in model_card(config, [], layout="celeba") and "**Sensitive.**" in model_card(
        config, [], layout="celeba"
    )
    assert "ensitive" not in model_card(config, [], layout="waterbirds")
