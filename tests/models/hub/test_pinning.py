"""Which commit a hub id without a revision stands for. The hub is not asked here: its cache is, which is laid by hand."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from fairsynth.config import RunConfig
from fairsynth.config.load import load_config
from fairsynth.models.hub import pinning
from fairsynth.models.hub.pinning import pinned
from fairsynth.models.sources import base_of, revision

OLD, NEW = "a" * 40, "b" * 40


# Fault case 40: a branch that has moved.
class Hub:
    """A cache, and what the hub would answer: None where there is no network."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.answer = cache, None

    def has(self, source: str, file: str, commit: str) -> None:
        """The cache has this commit as the main branch of a model."""
        folder = self.cache / f"models--{source.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(commit, "utf-8")
        (folder / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        (folder / "snapshots" / commit / file).write_text("{}", "utf-8")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(made.cache))
    monkeypatch.setattr(pinning, "_asked", lambda source, file: made.answer)
    return made


def config(**changes: str | None) -> RunConfig:
    given = {"models.diffusion": "demo", "models.clip": "owner/clip", "classify.backbone": "small"}
    return load_config(None, None, {**given, **changes})


def test_the_commit_becomes_part_of_every_result(hub: Hub) -> None:
    hub.has("owner/clip", "config.json", OLD)
    told: list[str] = []
    found = pinned(config(), told.append)
    assert found.models.clip_revision == OLD
    assert revision("owner/clip", found.models.clip_revision) == f"owner/clip@{OLD}"
    assert told == [
        f"note: owner/clip is taken at {OLD}, its newest commit; --models.clip_revision {OLD} stays with it"
    ]
    # Who only looks finds the same.
    assert pinned(config()) == found


def test_a_branch_that_moved_is_told_and_is_another_result(hub: Hub) -> None:
    hub.has("owner/clip", "config.json", OLD)
    hub.answer = NEW
    told: list[str] = []
    found = pinned(config(), told.append)
    assert found.models.clip_revision == NEW
    (line,) = told
    assert f"has moved from {OLD} to {NEW}" in line and f"--models.clip_revision {OLD} goes on with the old one" in line


def test_the_line_that_it_tells_is_one_that_goes_on_with_the_old(hub: Hub) -> None:
    hub.has("owner/clip", "config.json", OLD)
    before = pinned(config(), lambda line: None)
    hub.answer = NEW
    told: list[str] = []
    assert pinned(config(**{"models.clip_revision": OLD}), told.append) == before and told == []


def test_what_has_a_revision_or_is_a_folder_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    told: list[str] = []
    own = tmp_path / "clip"
    own.mkdir()
    for settled in (
        config(**{"models.clip_revision": NEW}),
        config(**{"models.clip": str(own)}),
        config(**{"models.clip": "demo"}),
        load_config(None, "waterbirds", {"data.root": str(tmp_path)}),
    ):
        assert pinned(settled, told.append) == settled
    assert told == []


def test_where_nobody_knows_the_commit_the_setting_stays_as_it_is(hub: Hub) -> None:
    told: list[str] = []
    assert pinned(config(), told.append) == config() and told == []
    assert base_of(config(**{"models.diffusion": "owner/sd"}).models)["base_revision"] == "owner/sd@main"


def test_all_three_models_are_settled(hub: Hub) -> None:
    hub.has("owner/sd", "model_index.json", OLD)
    hub.has("owner/clip", "config.json", NEW)
    hub.has("owner/resnet", "config.json", OLD)
    told: list[str] = []
    found = pinned(config(**{"models.diffusion": "owner/sd", "classify.backbone": "owner/resnet"}), told.append)
    assert (found.models.diffusion_revision, found.models.clip_revision) == (OLD, NEW)
    assert found.classify.backbone_revision == OLD and len(told) == 3


class _Answers(BaseHTTPRequestHandler):
    """A hub with one model, at one commit."""

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        if self.path.startswith("/api/models/owner/clip"):
            content = json.dumps({"id": "owner/clip", "modelId": "owner/clip", "sha": NEW}).encode()
        elif self.path == "/owner/clip/resolve/main/config.json":
            content = b"{}"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in (("Content-Length", str(len(content))), ("ETag", '"1"'), ("X-Repo-Commit", NEW)):
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_the_hub_is_asked_and_the_cache_keeps_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    try:
        told: list[str] = []
        assert pinned(config(), told.append).models.clip_revision == NEW
        assert pinned(config(**{"models.clip": "owner/none"}), told.append).models.clip_revision is None
        assert len(told) == 1
    finally:
        server.shutdown()
        server.server_close()
    # The network is gone, and the hub is not asked twice in a process: the cache alone knows it.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pinning._asked.cache_clear()
    assert pinned(config(), told.append).models.clip_revision == NEW
