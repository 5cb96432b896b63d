"""Where a model's description is: its folder, the cache, else the hub, which is asked once and not waited for."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub import constants

from fairsynth.models.hub import at_hand
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
    assert commit_on_hub("owner/away", None) is None and time.monotonic() - began < 5


def test_a_hub_that_stays_silent_is_asked_once_and_waited_for_no_longer_than_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: _accept(server, asked), daemon=True).start()
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(at_hand, "_SECONDS", 0.5)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(OSError, match="the hub does not answer for it"):
                described("owner/silent", None)
        assert len(asked) == 1 and time.monotonic() - began < 5


def _accept(server: socket.socket, asked: list[socket.socket]) -> None:
    with suppress(OSError):
        while True:
            asked.append(server.accept()[0])
