"""``deploy/rayjob.yaml``: KubeRay's schema, what its controller asks for beyond it, and what a run on it needs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.deploy.files import FOLDER, SECRET, documents, image_ray, pins, problems, schema
from tests.support.deploy.trying import tried
from tests.support.docs.page_checks import fairsynth_problem

SCHEMA = schema("kuberay")
# KubeRay derives the names of clusters and services from that of the job.
LONGEST_NAME = 47


@pytest.fixture
def job() -> dict[str, Any]:
    return documents("rayjob.yaml")[1]


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def validated(job: dict[str, Any]) -> list[str]:
    return problems({key: value for key, value in job.items() if key != "metadata"}, SCHEMA)


def test_it_keeps_to_kuberays_schema(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert validated(job) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "entryPoint"), "x"),
        (("spec", "backoffLimit"), "three"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "password"),
        (("spec", "rayClusterSpec", "autoscalerOptions", "version"), "v3"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "priorty"), 10),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "imagePullpolicy"), "Always"),
    ],
)
def test_a_mistake_is_found(place: tuple[str | int, ...], value: object, job: dict[str, Any]) -> None:
    node: Any = job
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    assert validated(job)


def test_it_is_what_kuberays_controller_accepts(job: dict[str, Any]) -> None:
    name, spec = job["metadata"]["name"], job["spec"]
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) and len(name) <= LONGEST_NAME
    cluster = spec["rayClusterSpec"]
    # A token needs the version, 2.52 or later; and tokens of Kubernetes itself are not for a RayJob.
    assert cluster["authOptions"] == {"mode": "token"} and cluster["rayVersion"] == pins()["ray"] == image_ray()
    # The autoscaler replaces pods itself.
    assert cluster["enableInTreeAutoscaling"] is True and cluster["autoscalerOptions"]["version"] == "v2"
    assert all(pod.get("restartPolicy", "Never") == "Never" for pod in pods(job))
    assert spec["shutdownAfterJobFinishes"] is True and spec["ttlSecondsAfterFinished"] > 0
    assert "deletionStrategy" not in spec and "clusterSelector" not in spec
    # Set for a head without CPUs, it would have the driver wait for a worker, and live on a spot machine.
    assert not any(key.startswith("entrypoint") and key != "entrypoint" for key in spec)


def test_the_command_survives_kuberays_shell_and_is_one_that_fairsynth_takes(
    job: dict[str, Any], tmp_path: Path
) -> None:
    # KubeRay puts the entrypoint between other commands of a shell, unquoted.
    entrypoint = job["spec"]["entrypoint"]
    assert not set(entrypoint) & set("&|;<>$`\"'\\\n(){}*?!#")
    done = tried(shlex.join(shlex.split(entrypoint)), tmp_path)
    assert done.code == 0, done.text
    assert [words[0] for words, _ in done.calls] == ["run", "inspect", "run"]
    assert [fairsynth_problem(words) for words, _ in done.calls] == ["", "", ""]
    words = done.calls[-1][0]
    assert words[words.index("--out") + 1].startswith("s3://")
    # Without these a run counts the nodes that are there when it begins: none.
    assert (
        int(words[words.index("--resources.workers") + 1])
        <= job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"]
    )
    assert words[words.index("--resources.gpus_per_worker") + 1] == "1"


def test_no_gpu_is_there_until_a_worker_is_asked_for(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(
        group["replicas"] == group["minReplicas"] == 0 < group["maxReplicas"] for group in cluster["workerGroupSpecs"]
    )
    assert "nvidia.com/gpu" not in str(pods(job)[0])


def test_spot_workers_are_preferred_and_drain_before_they_go(job: dict[str, Any]) -> None:
    groups = {group["groupName"]: group for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]}
    spot, other = groups["gpu-spot"], groups["gpu-on-demand"]
    assert spot["priority"] > other["priority"]
    assert (spot["labels"], other["labels"]) == ({"market": "spot"}, {"market": "on-demand"})
    for group, market in ((spot, "spot"), (other, "on-demand")):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert market in pod["nodeSelector"].values()
        drain = {each["name"]: each["value"] for each in container["env"]}["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]
        assert 0 < int(drain) < pod["terminationGracePeriodSeconds"] <= 120
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert any(each["key"] == "nvidia.com/gpu" for each in pod["tolerations"])
    # The same work fits both, or a spot shortage would leave it waiting.
    assert spot["template"]["spec"]["containers"] == other["template"]["spec"]["containers"]
    assert "on-demand" in pods(job)[0]["nodeSelector"].values()


def test_rights_come_from_a_role_and_no_pod_has_more_than_it_needs(job: dict[str, Any]) -> None:
    account = documents("rayjob.yaml")[0]
    assert account["kind"] == "ServiceAccount" and "arn:aws:iam" in str(account["metadata"]["annotations"])
    text = (FOLDER / "rayjob.yaml").read_text("utf-8")
    assert not SECRET.search(text) and "SECRET_ACCESS_KEY" not in text
    for pod in pods(job):
        assert pod["serviceAccountName"] == account["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 1000
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["image"] == "REGISTRY/fairsynth:0.1.0"
            assert "hostPath" not in str(pod.get("volumes", "")) and not pod.get("hostNetwork")
