"""A local Ray is safe to start anywhere: it runs no code of the folder one stands in, listens on loopback and asks for a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fairsynth
from fairsynth.engine.lifetime import start

# In one session: a stage's units are made, workers say where they import from, and all sockets are listed.
SESSION = """
import json, os, re, socket, sys
from pathlib import Path

import pyarrow as pa

from fairsynth.artifacts import Units
from fairsynth.config import ResourcesConfig
from fairsynth.engine.each_node import on_each_node
from fairsynth.engine.lifetime import processes
from fairsynth.engine.session import session_of
from fairsynth.engine.units import run_units

def make():
    return lambda task: {"t": pa.table({"name": [Path("relative.txt").read_text()]})}

def seen():
    return [sys.path, os.getcwd(), dict(os.environ)]

def listening(number):
    sockets = set()
    for entry in Path(f"/proc/{number}/fd").glob("*"):
        try:
            sockets |= set(re.findall(r"^socket:\\[(\\d+)\\]$", os.readlink(entry)))
        except OSError:
            pass
    lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/{number}/net/{name}").readlines()[1:]]
    return [line[1].split(":")[0] for line in lines if line[3] == "0A" and line[9] in sockets]

units = Units(Path(sys.argv[1]))
with session_of(ResourcesConfig(workers=1)) as session:
    made = run_units(session, "tiny", units, ["one"], make, models=False).made
    (answer,) = on_each_node(session, seen, 60)
    sockets = [address for number in [os.getpid(), *processes.rays()] for address in listening(number)]
    mode = os.environ["RAY_AUTH_MODE"]
path, folder, variables = answer.result
print(json.dumps({"made": made, "path": path, "folder": folder, "variables": variables, "sockets": sockets, "mode": mode,
                  "mode after": os.environ["RAY_AUTH_MODE"]}))
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
HOSTILE = "open({!r}, 'a').write('x')\nraise ImportError('hostile')\n"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A dataset's folder with modules that write a canary, and a file for workers to read by its relative path."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("pandas", "pyarrow", "numpy", "torch", "ray", "json", "cyclopts", "fairsynth"):
        (folder / f"{name}.py").write_text(HOSTILE.format(str(tmp_path / "canary")), "utf-8")
    (folder / "relative.txt").write_text("read", "utf-8")
    return folder


def environment(**changed: str) -> dict[str, str]:
    """Without a cluster, and this checkout to import from."""
    here = str(Path(fairsynth.__file__).parents[1])
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONSAFEPATH")}
    return kept | {"PYTHONPATH": here} | changed


@pytest.mark.slow
def test_a_run_in_a_hostile_folder(hostile: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SESSION, str(tmp_path / "units")],
        env=environment(RAY_AUTH_MODE="disabled"),
        cwd=hostile,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["made"] == 1 and not (tmp_path / "canary").exists()
    assert str(hostile) not in found["path"] and "" not in found["path"]
    assert found["folder"] == str(hostile), "relative paths mean the same in workers"
    assert found["variables"].items() >= {
        "PYTHONSAFEPATH": "1", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "RAY_AUTH_MODE": "token",
    }.items()  # fmt: skip
    assert len(found["sockets"]) > 5 and set(found["sockets"]) <= LOOPBACK
    assert (found["mode"], found["mode after"]) == ("token", "disabled")


@pytest.mark.parametrize("path", ["{here}", "{here}:", ":{here}"])
@pytest.mark.parametrize(
    "words", [["-m", "fairsynth.cli"], ["-c", "import sys; sys.argv[0] = 'fairsynth'; import fairsynth.cli"]]
)
def test_the_command_imports_nothing_from_there(path: str, words: list[str], hostile: Path, tmp_path: Path) -> None:
    here = environment()["PYTHONPATH"]
    for module in ("fairsynth", "json"):  # Python's own loader takes them before a line of ours runs
        (hostile / f"{module}.py").unlink()
    if words[0] == "-c":
        words = ["-P", *words]
    done = subprocess.run(
        [sys.executable, *words, "--version"], env=environment(PYTHONPATH=path.format(here=here)), cwd=hostile,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and not (tmp_path / "canary").exists(), done.stderr[-2000:]


def test_a_jobs_own_variables_are_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert set(start._for_the_cluster()) == {"PYTHONSAFEPATH", "RAY_USAGE_STATS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"}
    job = {"runtime_env": {"working_dir": "gcs://x.zip", "env_vars": {"HF_HUB_DISABLE_TELEMETRY": "1"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert set(start._for_the_cluster()) == {"PYTHONSAFEPATH", "RAY_USAGE_STATS_ENABLED"}


def test_an_empty_entry_of_the_path_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":/a::/b:")
    assert start._without_current_folder() == {"PYTHONPATH": "/a:/b"}
    assert start.own_path()["PYTHONPATH"].split(":")[-2:] == ["/a", "/b"]
    monkeypatch.delenv("PYTHONPATH")
    assert start._without_current_folder() == {}


BOTH = """
from ray.cluster_utils import Cluster
import ray
from fairsynth.config import ResourcesConfig
from fairsynth.engine.session import session_of

def on_a_cluster():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False)
    found = ray.get(ray.remote(Actor).remote().node.remote(), timeout=60)
    ray.shutdown()
    cluster.shutdown()
    return found

class Actor:
    def node(self):
        return ray.get_runtime_context().get_node_id()

first = on_a_cluster()
with session_of(ResourcesConfig(workers=1)) as session:
    session.connect()
    local = ray.get(ray.remote(Actor).remote().node.remote(), timeout=60)
last = on_a_cluster()
print(len({first, local, last}))
"""


@pytest.mark.slow
def test_a_token_of_a_local_ray_is_forgotten_with_it(tmp_path: Path) -> None:
    """A cluster without tokens would take no actor from a process that still shows one."""
    done = subprocess.run(
        [sys.executable, "-c", BOTH], env=environment(RAY_AUTH_MODE="disabled"), cwd=tmp_path,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "3", done.stderr[-3000:]
