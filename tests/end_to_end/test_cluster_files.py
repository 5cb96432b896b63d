"""The files for clusters: read by Ray's own validation, without a cloud and without starting Ray."""

from __future__ import annotations

import copy
import os
import subprocess
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from jsonschema import ValidationError
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

ROOT = Path(__file__).parents[2]
START = ("head_start_ray_commands", "worker_start_ray_commands")


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def validated(config: dict[str, Any]) -> dict[str, Any]:
    """The config as the launcher would use it; raises what the launcher would raise."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return dict(prepared)


@pytest.fixture
def cluster() -> dict[str, Any]:
    return dict(load("cluster.yaml"))


def commands(config: dict[str, Any], *keys: str) -> str:
    return "\n".join(command for key in keys for command in config[key])


def test_the_cluster_file_satisfies_rays_schema(cluster: dict[str, Any]) -> None:
    assert validated(cluster)["available_node_types"].keys() == cluster["available_node_types"].keys()
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    "damage",
    [
        {"max_workers": "eight"},
        {"idle_timeout": 5},
        {"provider": {"region": "us-west-2"}},
        {"docker": {"image": "x", "container_name": "y", "privileged": True}},
        {"available_node_types": {"head": {"resources": {"CPU": 0.5}, "node_config": {}}}},
        {"available_node_types": {"head": {"resources": {"CPU": 0}, "node_config": {}, "label": {"role": "head"}}}},
    ],
)
def test_the_check_refuses_a_damaged_file(cluster: dict[str, Any], damage: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, KeyError)):
        validated({**cluster, **damage})


def test_no_work_is_placed_on_the_head(cluster: dict[str, Any]) -> None:
    head = validated(cluster)["available_node_types"][cluster["head_node_type"]]
    assert head["resources"]["CPU"] == 0 and not head["resources"].get("GPU")
    assert head["labels"]["role"] == "head"
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["max_workers"] == 0


def test_spot_workers_are_preferred_and_on_demand_ones_step_in(cluster: dict[str, Any]) -> None:
    workers = {n: t for n, t in cluster["available_node_types"].items() if n != cluster["head_node_type"]}
    spot = [t for t in workers.values() if t["node_config"].get("InstanceMarketOptions") == {"MarketType": "spot"}]
    ordinary = [t for t in workers.values() if "InstanceMarketOptions" not in t["node_config"]]
    assert spot and ordinary and len(spot) + len(ordinary) == len(workers)
    assert min(t["priority"] for t in spot) > max(t["priority"] for t in ordinary)
    assert all(t["labels"]["market"] == "spot" for t in spot)
    assert all(t["labels"]["market"] == "on-demand" for t in ordinary)
    assert all(t["resources"]["GPU"] >= 1 and t["min_workers"] == 0 and t["max_workers"] > 0 for t in workers.values())
    # The same work fits both, or a spot shortage would leave it waiting.
    assert len({str(sorted(t["resources"].items())) for t in workers.values()}) == 1


def test_unused_machines_are_given_back(cluster: dict[str, Any]) -> None:
    assert 0 < cluster["idle_timeout_minutes"] <= 30
    assert cluster["max_workers"] > 0
    assert cluster["provider"]["cache_stopped_nodes"] is False


def test_the_dashboard_is_not_open_to_the_network(cluster: dict[str, Any]) -> None:
    # Ray's own default for AWS is 0.0.0.0, and it applies wherever the file says nothing.
    text = commands(validated(cluster), *START)
    assert "--dashboard-host=127.0.0.1" in text and "0.0.0.0" not in text
    defaults = {k: v for k, v in cluster.items() if k not in START}
    assert "0.0.0.0" in commands(validated(defaults), *START)


def test_every_node_asks_for_the_token(cluster: dict[str, Any]) -> None:
    config = validated(cluster)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "export RAY_AUTH_MODE=token" in commands(config, "initialization_commands")
    for key in START:
        starts = [command for command in config[key] if "ray start" in command]
        assert starts
        assert all(c.index("RAY_AUTH_MODE=token") < c.index("ray start") for c in starts)
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]


def test_a_node_that_is_told_to_end_drains_first(cluster: dict[str, Any]) -> None:
    assert "--env RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=90" in cluster["docker"]["run_options"]


def test_workers_pass_on_the_notice_of_a_spot_machine_s_end(cluster: dict[str, Any]) -> None:
    stop, command = cluster["worker_start_ray_commands"][-2:]
    (script,) = (word for word in command.split() if word.startswith("~"))
    assert (ROOT / cluster["file_mounts"][script]).read_text("utf-8").startswith('"""Tells Ray when AWS')
    # As a shell takes it, under a name of this test's own: what was started before ends, and the shell itself does not.
    name = f"x{uuid.uuid4().hex}"
    earlier = subprocess.Popen(["bash", "-c", f"exec -a {name} sleep 60"])
    try:
        for line in (stop.replace("[s]pot_notice.py", f"[x]{name[1:]}"), command.replace("nohup python", "nohup true")):
            harmless = line.replace("spot_notice.py", name).replace("/tmp/spot_notice.log", "/dev/null")
            assert subprocess.run(["bash", "-c", harmless], timeout=20, check=False).returncode == 0
        assert earlier.wait(timeout=20) < 0
    finally:
        earlier.kill()


def test_the_image_has_the_ray_that_the_project_pins(cluster: dict[str, Any]) -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if "==" in line)
    assert cluster["docker"]["image"] == f"rayproject/ray:{pins['ray']}-py311-gpu"


def test_what_the_nodes_install_is_there_to_be_copied(cluster: dict[str, Any]) -> None:
    mounted = {
        Path(remote).name: local for remote, local in cluster["file_mounts"].items() if "auth_token" not in remote
    }
    assert all((ROOT / local).is_file() for local in mounted.values())
    setup = commands(cluster, "setup_commands", "worker_start_ray_commands")
    assert all(name in setup for name in mounted) and "pip install" in setup


def test_the_runtime_environment_is_one_that_ray_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    content = load("jobs/runtime_env.yaml")
    assert RuntimeEnv(**content)["working_dir"] == "."
    assert all(isinstance(value, str) for value in content["env_vars"].values())
    with pytest.raises((TypeError, ValueError)):
        RuntimeEnv(**content | {"env_vars": {"A": 1}})


def test_a_job_brings_the_code_and_nothing_heavy(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in (
        ".git/config", ".venv/bin/python", "runs/demo/report.json", "build/x", "tests/test_x.py", "fairsynth/cli.py",
        "fairsynth/config/presets/demo.yaml", "fairsynth/demo/weights/clip/model.safetensors", "jobs/pipeline.py",
        "fairsynth/__pycache__/cli.pyc", ".mypy_cache/x", "fairsynth.egg-info/PKG-INFO", "pyproject.toml",
    ):  # fmt: skip
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / ".rayignore").write_text((ROOT / ".rayignore").read_text("utf-8"))
    package = tmp_path / "package.zip"
    create_package(str(project), package, include_gitignore=True)
    files = {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    assert files - {".rayignore"} == {
        "fairsynth/cli.py",
        "fairsynth/config/presets/demo.yaml",
        "fairsynth/demo/weights/clip/model.safetensors",
        "jobs/pipeline.py",
        "pyproject.toml",
    }


def test_all_yaml_of_the_project_parses() -> None:
    ours = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in (".git", "runs", "build", "shared") and not f.startswith(".venv")]
        ours += [Path(folder, file) for file in files if file.endswith((".yaml", ".yml"))]
    assert {"cluster.yaml", "runtime_env.yaml", "demo.yaml", "waterbirds.yaml"} <= {path.name for path in ours}
    for path in ours:
        assert list(yaml.safe_load_all(path.read_text("utf-8"))), path
