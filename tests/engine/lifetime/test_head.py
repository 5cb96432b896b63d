"""That what a session works on is gone is noticed at once for a local Ray, and after a while for a cluster's head."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from queue import Queue

import pytest

from fairsynth.engine.lifetime import head, processes
from fairsynth.engine.lifetime.head import Watch
from fairsynth.errors import InfrastructureError


def test_the_end_of_a_local_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: Queue[InfrastructureError] = Queue()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        monkeypatch.setattr(processes, "started", lambda: {"gcs_server": process})
        watch = Watch(lost.put)
        time.sleep(1)
        assert lost.empty()
        process.kill()
        told = str(lost.get(timeout=20))
        watch.end()
    assert (
        told == "Ray's head process (gcs_server) has ended by signal 9; finished work is kept, the same command goes on"
    )


def test_one_that_ends_on_purpose_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: Queue[InfrastructureError] = Queue()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        monkeypatch.setattr(processes, "started", lambda: {"raylet": process})
        Watch(lost.put).end()
        process.kill()
    time.sleep(2)
    assert lost.empty()


def test_a_clusters_head_is_lost_after_a_while_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: Queue[InfrastructureError] = Queue()
    monkeypatch.setattr(head, "_LOOK", 0.05)
    monkeypatch.setattr(head, "_PATIENCE", 1.0)
    monkeypatch.setattr(processes, "started", dict)
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", f"ray://{where}")
        watch = Watch(lost.put)
        time.sleep(1.5)
        assert lost.empty()
    told = str(lost.get(timeout=20))
    watch.end()
    assert told.startswith(f"the cluster's head {where} is lost: ") and told.endswith("the same command goes on")


def test_a_head_may_take_as_long_to_come_back_as_ray_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "RAY_gcs_rpc_server_reconnect_timeout_s"
    monkeypatch.delenv(name, raising=False)
    assert head._patience() == 20
    for given, seconds in (("600", 600.0), ("5", 20.0), ("soon", 20.0)):
        monkeypatch.setenv(name, given)
        assert head._patience() == seconds
