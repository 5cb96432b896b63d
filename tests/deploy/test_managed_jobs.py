"""``deploy/sky.yaml`` and ``deploy/anyscale.yaml``: their projects' schemas, and that what they run is what fairsynth takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairsynth.errors import InfrastructureError
from tests.support.deploy.files import FOLDER, SECRET, documents, problems, schema, shell_problem
from tests.support.deploy.trying import tried
from tests.support.docs.page_checks import fairsynth_problem

SKYPILOT, ANYSCALE = schema("skypilot"), schema("anyscale")


@pytest.fixture
def sky() -> dict[str, Any]:
    (task,) = documents("sky.yaml")
    return task


@pytest.fixture
def anyscale() -> dict[str, Any]:
    (job,) = documents("anyscale.yaml")
    return job


def sky_problems(task: dict[str, Any]) -> list[str]:
    return problems(task, SKYPILOT["task"]) + problems(task["resources"], SKYPILOT["resources"])


def run_on(rank: int, task: dict[str, Any], folder: Path, codes: dict[str, int] | None = None, started: int = 0) -> Any:
    """What the node with this rank does: SkyPilot's script to start Ray ends with ``started``."""
    script = folder / "sky_templates" / "ray" / "start_cluster"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f"#!/bin/bash\nexit {started}\n", "utf-8")
    script.chmod(0o755)
    there = {"SKYPILOT_NODE_RANK": str(rank), "SKYPILOT_NUM_NODES": str(task["num_nodes"])}
    return tried(task["run"], folder, (), codes, {**task["envs"], **there})


def test_the_files_keep_to_their_schemas(sky: dict[str, Any], anyscale: dict[str, Any]) -> None:
    assert sky_problems(sky) == []
    assert problems(anyscale, ANYSCALE) == []


def test_mistakes_are_found(sky: dict[str, Any], anyscale: dict[str, Any]) -> None:
    assert sky_problems({**sky, "nodes": 4})
    assert sky_problems({**sky, "num_nodes": "four"})
    recovery = {"recover_on_exit_codes": [500]}
    assert sky_problems({**sky, "resources": {**sky["resources"], "job_recovery": recovery}})
    assert problems({**anyscale, "max_retry": 1}, ANYSCALE)
    assert problems({**anyscale, "env_vars": {"A": 1}}, ANYSCALE)
    workers = [{**anyscale["compute_config"]["worker_nodes"][0], "market_type": "CHEAP"}]
    assert problems({**anyscale, "compute_config": {"worker_nodes": workers}}, ANYSCALE)


def test_only_what_a_second_try_can_mend_is_tried_again(sky: dict[str, Any]) -> None:
    recovery = sky["resources"]["job_recovery"]
    assert recovery["recover_on_exit_codes"] == [InfrastructureError.exit_code]
    # This one would try again whatever the exit code is.
    assert recovery["max_restarts_on_errors"] == 0
    # SkyPilot takes any other key here for one of a plugin.
    assert recovery.keys() == {"strategy", "recover_on_exit_codes", "max_restarts_on_errors"}
    assert sky["resources"]["use_spot"] is True


def test_the_first_node_runs_and_the_others_only_start_ray(sky: dict[str, Any], tmp_path: Path) -> None:
    assert shell_problem(sky["run"]) == ""
    first = run_on(0, sky, tmp_path)
    assert first.code == 0, first.text
    assert [fairsynth_problem(words) for words, _ in first.calls] == ["", "", ""]
    words, address = first.calls[-1]
    assert address == "127.0.0.1:6379" and words[words.index("--out") + 1] == sky["envs"]["OUT"]
    assert words[words.index("--resources.workers") + 1] == str(sky["num_nodes"])
    other = run_on(1, sky, tmp_path)
    assert (other.code, other.calls) == (0, [])


@pytest.mark.parametrize(("codes", "code"), [({"run": 5}, 5), ({"inspect": 3}, 3), ({"run": 4}, 4)])
def test_skypilot_sees_the_exit_code_of_the_run(
    codes: dict[str, int], code: int, sky: dict[str, Any], tmp_path: Path
) -> None:
    assert run_on(0, sky, tmp_path, codes).code == code


@pytest.mark.parametrize("rank", [0, 1])
def test_a_ray_that_does_not_start_is_tried_again(rank: int, sky: dict[str, Any], tmp_path: Path) -> None:
    failed = run_on(rank, sky, tmp_path, started=1)
    assert (failed.code, failed.calls) == (InfrastructureError.exit_code, [])


def test_skypilots_own_ray_is_left_alone(sky: dict[str, Any]) -> None:
    commands = [line for line in sky["run"].splitlines() if not line.strip().startswith("#")]
    assert "ray stop" not in "\n".join(commands)


def test_the_job_of_anyscale_runs_what_fairsynth_takes(anyscale: dict[str, Any], tmp_path: Path) -> None:
    done = tried(anyscale["entrypoint"], tmp_path)
    assert done.code == 0, done.text
    assert [fairsynth_problem(words) for words, _ in done.calls] == ["", "", ""]
    words = done.calls[-1][0]
    assert words[words.index("--out") + 1].startswith("s3://")
    (workers,) = anyscale["compute_config"]["worker_nodes"]
    assert int(words[words.index("--resources.workers") + 1]) <= workers["max_nodes"]
    assert anyscale["compute_config"]["head_node"]["resources"] == {"CPU": 0, "GPU": 0} and workers["min_nodes"] == 0


def test_nothing_secret_stands_in_them(sky: dict[str, Any], anyscale: dict[str, Any]) -> None:
    for name in ("sky.yaml", "anyscale.yaml", "Dockerfile", "job.sh"):
        assert not SECRET.search((FOLDER / name).read_text("utf-8")), name
    # Given when the job is launched, and the same on every node.
    assert sky["secrets"] == {"RAY_AUTH_TOKEN": None} and sky["envs"]["RAY_AUTH_MODE"] == "token"
    assert sky["resources"]["image_id"] == f"docker:{anyscale['image_uri']}"
