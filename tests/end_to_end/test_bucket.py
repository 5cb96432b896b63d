"""A whole run whose images and whose output are in a bucket, by way of a network that fails, ends like one on a disk."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairsynth.store.objects import Objects
from tests.conftest import fairsynth, small_arguments
from tests.support.calling import called
from tests.support.comparing import essence
from tests.support.shared.folder_run import Submitted, words_of
from tests.support.store.fault_proxy import FaultProxy
from tests.support.store.fetched import fetched
from tests.support.store.many import upload_folder
from tests.support.store.s3_server import KEYS, new_bucket


# Fault cases 52, 56: another machine goes on from the bucket; a network that fails.
class Ran:
    """What the run printed, where it left what, what happened to its requests, and what a second run beside it was told."""

    def __init__(self, folder: Path, endpoint: str, images: Path) -> None:
        bucket = new_bucket(endpoint)
        self.images = bucket.uri("images")
        names = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*")) if path.is_file()]
        upload_folder(Objects.at(self.images), images, "", names)
        proxy = FaultProxy(
            endpoint, 5, unavailable=0.05, cut_before=0.004, cut_after=0.003, cut_during=0.003, delayed=0.01
        )
        with proxy.running():
            self.through, self.uri = bucket.uri("runs/a", proxy.url), bucket.uri("runs/a")
            words = _at(self.through, bucket.uri("images", proxy.url))
            command = [sys.executable, "-m", "fairsynth.cli", "run", *words]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            while Objects.at(self.uri).read("fairsynth.json") is None and process.poll() is None:
                time.sleep(0.2)
            self.second = fairsynth("run", *_at(self.uri, self.images))
            out, err = process.communicate(timeout=900)
            assert process.returncode == 0, err[-3000:]
            self.printed, self.happened = out, proxy.happened
        self.out = fetched(self.uri, folder)


def _at(uri: str, images: str) -> list[str]:
    return [uri if word == "OUT" else word for word in small_arguments(Path("OUT"), **words_of(images))]


def _but_for_the_dataset(found: dict[str, Any]) -> dict[str, Any]:
    """Without cards, which tell where the images came from."""
    cards = ("README.md", "croissant.json")
    files = {name: value for name, value in found["files"].items() if not name.endswith(cards)}
    return found | {"files": files}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, s3_server: str, submitted: Submitted) -> Iterator[Ran]:
    """A small run from one prefix of a bucket into another, through the proxy."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setenv("FAIRSYNTH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Ran(tmp_path_factory.mktemp("fetched"), s3_server, submitted.images)


def test_it_ends_like_a_run_on_a_disk(ran: Ran, submitted: Submitted) -> None:
    assert (
        ran.happened["unavailable"] > 20
        and sum(ran.happened[f"cut_{when}"] for when in ("before", "after", "during")) > 3
    )
    undisturbed, mine = (_but_for_the_dataset(essence(run)) for run in (submitted.out, ran.out))
    assert len(undisturbed["files"]) > 20
    for part in undisturbed:
        assert mine[part] == undisturbed[part], part
    assert f"report: {ran.uri.partition('?')[0]}/report.html" in ran.printed
    assert "127.0.0.1" not in ran.printed and KEYS["AWS_SECRET_ACCESS_KEY"] not in ran.printed


def test_a_second_writer_is_refused(ran: Ran) -> None:
    assert ran.second.returncode == 6, ran.second.stderr
    assert "is in use by process" in ran.second.stderr and "choose another with --out" in ran.second.stderr


def test_on_another_machine_it_is_seen_and_nothing_is_made_again(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    status = called("status", ran.uri, "--json")
    assert status.returncode == 0, status.stderr
    found = json.loads(status.stdout)
    assert found["state"] == "finished" and found["verdict"] and all(s["state"] == "finished" for s in found["stages"])
    logs = called("logs", ran.uri)
    assert logs.returncode == 0 and "verdict" in logs.stdout
    before = {path.relative_to(ran.out).parts[1] for path in ran.out.glob("stages/*/artifact.json")}
    again = called("run", *_at(ran.uri, ran.images))
    assert again.returncode == 0, again.stderr
    # The images come by another address: they are looked at once more, and found the same.
    made = [line for line in again.stdout.splitlines() if line[:1].isalpha() and "nothing to do" not in line]
    assert not [
        line
        for line in made
        if line.split()[0] in ("embed", "cluster", "finetune", "synthesize", "audit", "tune", "evaluate")
    ]
    after = {key.split("/")[1] for key in Objects.at(ran.uri).folders("stages")}
    assert {name for name in after - before if not name.startswith(("ingest-", "report-"))} == set()


def test_on_another_machine_plan_and_export_find_all_of_it(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    plan = called("plan", *_at(ran.uri, ran.images))
    assert plan.returncode == 0 and "every stage is finished for this config" in plan.stdout, plan.stderr
    assert plan.stdout.startswith(f"output   {ran.uri.partition('?')[0]}\n")
    before = {entry[:3] for entry in Objects.at(ran.uri).walk()}
    refused = called("export", *_at(ran.uri, ran.images), "--format", "folder")
    assert refused.returncode == 2 and "give a folder of this machine with --to" in refused.stderr
    done = called("export", *_at(ran.uri, ran.images), "--format", "folder", "--to", str(tmp_path / "set"))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (ran.out / "synthetic" / "images").rglob("*") if path.is_file()}
    assert names and {path.name for path in (tmp_path / "set").rglob("*") if path.name in names} == names
    assert {entry[:3] for entry in Objects.at(ran.uri).walk()} == before
