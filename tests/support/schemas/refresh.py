"""Writes the schemas anew, from what their projects publish; README.md says how it is called."""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Documents of Kubernetes: metadata has a schema of Kubernetes itself, and the status is not for people to write.
_NOT_OURS = ("metadata", "status")


def without_descriptions(node: Any, names: bool = False) -> Any:
    """A schema without its texts. ``names``: the keys of ``node`` are names of fields, of which one may be description."""
    if isinstance(node, Mapping):
        return {
            key: without_descriptions(value, key == "properties" and not names)
            for key, value in node.items()
            if names or key != "description"
        }
    return [without_descriptions(item) for item in node] if isinstance(node, list) else node


def kuberay(file: str) -> dict[str, Any]:
    """The schema of a RayJob, version v1, from KubeRay's CustomResourceDefinition."""
    import yaml

    definition = yaml.load(Path(file).read_text("utf-8"), yaml.CSafeLoader)
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema = without_descriptions(version["schema"]["openAPIV3Schema"])
    schema["properties"] = {k: v for k, v in schema["properties"].items() if k not in _NOT_OURS}
    spec = schema["properties"]["spec"]["properties"]
    cluster = spec["rayClusterSpec"]["properties"]
    groups = [cluster["headGroupSpec"]["properties"], cluster["workerGroupSpecs"]["items"]["properties"]]
    pod = groups[0]["template"]
    for place, key in ((spec, "submitterPodTemplate"), *((group, "template") for group in groups)):
        if place[key] == pod:  # once in the file, not three times
            place[key] = {"$ref": "#/$defs/pod"}
    return {**schema, "$defs": {"pod": pod}}


def skypilot() -> dict[str, Any]:
    """SkyPilot's schemas of a task and of its resources."""
    from sky.utils import schemas

    return {"task": schemas.get_task_schema(), "resources": schemas.get_resources_schema()}


def anyscale() -> dict[str, Any]:
    """The fields of Anyscale's job, from the classes that its command line reads a file into."""
    from anyscale.compute_config.models import ComputeConfig, HeadNodeConfig, MarketType, WorkerNodeGroupConfig
    from anyscale.job.models import JobConfig

    compute = _fields(ComputeConfig)
    compute["properties"]["head_node"] = _fields(HeadNodeConfig)
    compute["properties"]["worker_nodes"] = {"type": "array", "items": _fields(WorkerNodeGroupConfig)}
    markets = {"enum": sorted(str(market.value) for market in MarketType)}
    compute["properties"]["worker_nodes"]["items"]["properties"]["market_type"] = markets
    job = _fields(JobConfig)
    job["properties"]["compute_config"] = {"anyOf": [{"type": "string"}, compute]}
    return job


def _fields(model: type) -> dict[str, Any]:
    hints = typing.get_type_hints(model)
    fields = (field for field in dataclasses.fields(model) if not field.name.startswith("_"))
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {field.name: _kind(hints[field.name]) for field in fields},
    }


def _kind(hint: Any) -> dict[str, Any]:
    plain = {str: "string", int: "integer", bool: "boolean", float: "number"}
    if hint in plain:
        return {"type": plain[hint]}
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        kinds = [_kind(each) for each in inner if each is not type(None)]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if origin is list:
        return {"type": "array", "items": _kind(inner[0])}
    if dict in (hint, origin):
        return {"type": "object", "additionalProperties": _kind(inner[1]) if inner else {}}
    return {}  # classes of theirs that deploy/ has no use for


def main() -> None:
    """Write the schema of the project that is named: ``kuberay FILE``, ``skypilot`` or ``anyscale``."""
    name, *rest = sys.argv[1:]
    schema = {"kuberay": kuberay, "skypilot": skypilot, "anyscale": anyscale}[name](*rest)
    (HERE / f"{name}.json").write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
