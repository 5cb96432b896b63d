"""Where a model's description is: its folder, the cache, else the hub, which is asked once and not waited for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from fairsynth.models.hub.at_hand import commit_on_hub, described, fetched
from tests.support.models.pipelines import COMMIT, in_cache
from tests.support.models.pipelines import described as folder_of


def test_a_folder_and_the_cache_come_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    # Whoever asked it now would wait for nobody.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    own, cached = folder_of(tmp_path / "own"), in_cache(tmp_path / "cache", "owner/sd", "StableDiffusionPipeline")
    assert described(str(own), None) == fetched(str(own), None) == own
    assert described("owner/sd", None) == described("owner/sd", COMMIT) == cached


def test_a_hub_that_does_not_answer_costs_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    for name in ("owner/away", "owner/away", "no name at all"):
        with pytest.raises(OSError, match="is not in the cache, and the hub does not answer for it"):
            described(name, None)
    assert commit_on_hub("owner/away") is None and time.monotonic() - began < 5
