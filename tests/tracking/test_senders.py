"""What the clients of trackers are asked to do, and what is refused before a run. What servers show is in test_write.py."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fairsynth.artifacts import Artifact
from fairsynth.config import TrackingConfig
from fairsynth.errors import ConfigError
from fairsynth.tracking import write
from fairsynth.tracking.curves import Curve
from fairsynth.tracking.wandb import require_login
from fairsynth.tracking.write import track
from fairsynth.watching import log
from tests.watching.leftovers import finish

CURVES = [
    Curve("low--0", {"loss": [(1, 0.75), (2, 0.5)]}, {"prompt": "a photo"}),
    Curve("high--0", {"loss": [(1, 0.25)]}),
]
TO_MLFLOW = TrackingConfig(tensorboard=False, to=("mlflow",), project="birds")


class Server:
    """Runs of one server of MLflow by their ids, for the calls of its client that are made."""

    def __init__(self) -> None:
        self.experiments, self.runs, self.made = dict[str, str](), dict[str, dict[str, Any]](), 0

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"experiment-{len(self.experiments)}")

    def search_runs(self, experiments: list[str], which: str) -> list[SimpleNamespace]:
        tag, wanted = which.removeprefix("tags.").split(" = ")
        return [
            SimpleNamespace(info=SimpleNamespace(run_id=name))
            for name, run in self.runs.items()
            if run["experiment"] in experiments and run["tags"].get(tag) == wanted.strip("'")
        ]

    def delete_run(self, run: str) -> None:
        del self.runs[run]

    def create_run(self, experiment: str, at: int, tags: dict[str, str], name: str) -> SimpleNamespace:
        self.made += 1
        facts = {"experiment": experiment, "tags": tags, "name": name, "metrics": [], "params": [], "ended": None}
        self.runs[f"run-{self.made}"] = facts
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run-{self.made}"))

    def log_batch(self, run: str, metrics: list[Any], params: list[Any]) -> None:
        assert len(metrics) + len(params) <= 1000, "more than a call takes"
        self.runs[run]["metrics"] += metrics
        self.runs[run]["params"] += params

    def set_terminated(self, run: str, end_time: int) -> None:
        self.runs[run]["ended"] = end_time

    @property
    def names(self) -> list[str]:
        return sorted(run["name"] for run in self.runs.values())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """In place of MLflow, whose client is not installed with the tests."""
    server, client, entities = Server(), ModuleType("mlflow"), ModuleType("mlflow.entities")
    client.MlflowClient = lambda: server  # type: ignore[attr-defined]
    entities.Metric = lambda name, value, at, step: (name, step, value)  # type: ignore[attr-defined]
    entities.Param = lambda name, value: (name, value)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", client)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return server


def unmark(artifact: Artifact) -> None:
    """As if the process had been killed before it set the mark."""
    (artifact.path.parents[1] / ".tracked" / f"mlflow-{artifact.path.name}").unlink()


def test_two_people_with_one_config_and_one_server_keep_their_runs(tmp_path: Path, server: Server) -> None:
    people = [finish(tmp_path / name / "out", "finetune") for name in ("ann", "bob")]
    assert people[0].path.name == people[1].path.name
    for artifact in people:
        assert track(artifact.path.parents[1], TO_MLFLOW, artifact, lambda: CURVES) == ""
    assert server.names == ["out high--0"] * 2 + ["out low--0"] * 2
    # What one sends again replaces what is theirs alone.
    unmark(people[0])
    assert track(people[0].path.parents[1], TO_MLFLOW, people[0], lambda: CURVES[:1]) == ""
    assert server.names == ["out high--0"] + ["out low--0"] * 2


def test_mlflow_gets_each_point_once(tmp_path: Path, server: Server) -> None:
    artifact = finish(tmp_path, "finetune")
    long = Curve("long", {"loss": [(step, 1 / (1 + step)) for step in range(2000)]})
    for _ in range(2):
        assert track(tmp_path, TO_MLFLOW, artifact, lambda: [*CURVES, long]) == ""
        unmark(artifact)
    assert list(server.experiments) == ["birds"] and server.names == [
        f"{tmp_path.name} {name}" for name in ("high--0", "long", "low--0")
    ]
    found = {run["name"].split()[1]: run for run in server.runs.values()}
    assert found["low--0"]["metrics"] == [("loss", 1, 0.75), ("loss", 2, 0.5)]
    assert found["low--0"]["params"] == [("prompt", "a photo")] and all(run["ended"] for run in found.values())
    assert [step for _, step, _ in found["long"]["metrics"]] == list(range(2000))


def test_what_is_told_of_a_server_that_refuses_has_no_password(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise OSError("no answer from https://ann:hunter22@mlflow.example.org/api")

    monkeypatch.setattr(server, "get_experiment_by_name", refuse)
    with log.logged(tmp_path):
        wrong = track(tmp_path, TO_MLFLOW, finish(tmp_path, "finetune"), lambda: CURVES)
    assert wrong == "mlflow: OSError: no answer from https://***@mlflow.example.org/api"


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a login."""
    for name in ("MODE", "API_KEY", "IDENTITY_TOKEN_FILE", "BASE_URL"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_without_a_login_wandb_is_refused_before_the_run(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(ConfigError, match=r"no login for api.wandb.ai; run 'wandb login', .* WANDB_MODE=offline"):
        write.check(TrackingConfig(to=("wandb",)))
    write.check(TrackingConfig(to=("mlflow",)))


@pytest.mark.parametrize(
    ("name", "value"), [("MODE", "offline"), ("MODE", "disabled"), ("API_KEY", "k" * 40), ("IDENTITY_TOKEN_FILE", "f")]
)
def test_logins_of_the_environment(nobody: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"WANDB_{name}", value)
    require_login()


def test_a_login_is_one_of_the_server_that_is_meant(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody / ".netrc").write_text("machine wandb.example.org login user password secret\n")
    (nobody / ".netrc").chmod(0o600)
    with pytest.raises(ConfigError):
        require_login()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org/")
    require_login()
    monkeypatch.setenv("NETRC", str(nobody / "other"))
    with pytest.raises(ConfigError):
        require_login()
