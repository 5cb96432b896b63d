"""What finetune leaves: a unit for each adapter, and units that adapters share; and the adapters that were planned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fairsynth.artifacts import Artifact
from fairsynth.config import DataConfig, FinetuneConfig, RunConfig
from fairsynth.groups import Group
from fairsynth.manifest import TRAIN, Manifest
from fairsynth.run_folder.files import copy_files
from fairsynth.run_folder.records import read_facts
from fairsynth.stages.cluster.output import read_clusters, recognised_groups
from fairsynth.stages.finetune.jobs import SHARED as SHARED
from fairsynth.stages.finetune.jobs import AdapterJob as AdapterJob
from fairsynth.stages.finetune.jobs import plan_adapters, plan_shared, token_of
from fairsynth.stages.finetune.left_out import LeftOut as LeftOut
from fairsynth.stages.finetune.left_out import left_out
from fairsynth.stages.finetune.left_out import left_out_remarks as left_out_remarks
from fairsynth.tracking.curves import Curve

ADAPTER_FILE = "adapter.json"
# All that an adapter's unit holds: an adapter's weights, or a whole network and its config.
_UNIT_FILES = (ADAPTER_FILE, "pytorch_lora_weights.safetensors", "diffusion_pytorch_model.safetensors", "config.json")
# Units that are no group's adapter have an equals sign in their name: a group's slug has none.
# Before there were families it was "texts=", with another file in it: a run that was stopped then makes it anew.
TEXTS_UNIT = "told="
_CLASS = "class="
# Of an adapter, for people who look at its losses.
_FACTS = ("prompt", "images", "learning_rate", "steps", "best_step", "rolled_back", "failed")


def class_units(prompts: Iterable[str]) -> dict[str, str]:
    """Class prompt by the name of the unit that holds its images' latents."""
    return {_CLASS + hashlib.sha256(prompt.encode()).hexdigest()[:12]: prompt for prompt in sorted(set(prompts))}


def is_adapter(unit: str) -> bool:
    """Whether a unit holds a group's adapter."""
    return "=" not in unit


class Adapter(NamedTuple):
    """A trained adapter: its group, its prompt and the rare token in it, and the number of images it learnt."""

    name: str
    group: Group
    cluster: int
    prompt: str
    images: int
    token: str = ""


def read_adapter(folder: Path) -> dict[str, Any]:
    """An adapter's origin and training, and under ``failed`` why it has no weights; empty if it has them.

    Raises DataError if the record is damaged.
    """
    return read_facts(folder / ADAPTER_FILE)


def copy_adapter(unit: Path, folder: Path) -> None:
    """Copy an adapter's files to a new folder, and nothing else of its unit. Raises ConfigError for a link."""
    copy_files(unit, folder, _UNIT_FILES)


def adapter_facts(artifact: Artifact) -> list[dict[str, Any]]:
    """The facts of every adapter, by name, the failed ones included."""
    units = artifact.units()
    names = sorted(name for name in units.done() if is_adapter(name))
    units.here(names)
    return [read_facts(units[name] / ADAPTER_FILE, name) for name in names]


def trained_adapters(artifact: Artifact, config: FinetuneConfig) -> list[Adapter]:
    """The adapters that have weights."""
    return [
        Adapter(
            name=facts["name"],
            group=Group(facts["label"], facts["attribute"]),
            cluster=facts["cluster"],
            prompt=facts["prompt"],
            images=facts["images"],
            token=token_of(config, facts["cluster"]),
        )
        for facts in adapter_facts(artifact)
        if not facts["failed"]
    ]


def has_shared(artifact: Artifact) -> bool:
    """Whether there is an adapter that all groups share, with weights."""
    units = artifact.units()
    return SHARED in units.done() and not read_adapter(units[SHARED])["failed"]


def needs_shared(config: RunConfig) -> bool:
    """Whether some group may be made by an adapter that all groups share."""
    if not config.shared.use or config.finetune.generator == "vanilla" or config.finetune.parameters == "full":
        return False
    return config.synthesize.routing in ("auto", "shared") or "shared" in config.synthesize.routes.values()


def planned_shared(config: RunConfig, clusters: Artifact, group_of: Mapping[str, Group]) -> AdapterJob | None:
    """The adapter that all groups share; None if the config needs none, if no prompt tells the groups apart, or if no
    group will be made.

    ``group_of``: the group of every embedded training image.
    """
    nobodys = left_out_of(config, clusters)
    if not needs_shared(config) or {group.attribute for group in group_of.values()} <= nobodys.keys():
        return None
    return plan_shared(config.finetune, config.shared, config.data, group_of, config.seed)


def planned_jobs(config: RunConfig, clusters: Artifact, manifest: Manifest) -> list[AdapterJob]:
    """The adapters that the config and the clusters need: none for groups that will not be made (``left_out``)."""
    counts = manifest.split(TRAIN).counts()
    nobodys = left_out_of(config, clusters)
    made = {group: assigned for group, assigned in read_clusters(clusters).items() if group.attribute not in nobodys}
    return plan_adapters(config.finetune, config.data, made, config.seed, counts)


def left_out_of(config: RunConfig, clusters: Artifact) -> LeftOut:
    """The attributes whose groups get no adapter: by what cluster found of them."""
    return left_out(config, recognised_groups(clusters))


def words(data: DataConfig) -> dict[str, Any]:
    """The settings that prompts depend on besides their templates."""
    return {"label_names": data.label_names, "attribute_names": data.attribute_names}


def curves(artifact: Artifact) -> list[Curve]:
    """A curve for every adapter, the one that all groups share included: training loss, and loss on held-out images."""
    units, found = artifact.units(), list[Curve]()
    for name in sorted(units.done()):
        if not is_adapter(name) and name != SHARED:
            continue
        facts = read_adapter(units[name])
        points = {"loss/training": facts.get("losses", ()), "loss/held_out": facts["validation"]}
        told = {key: str(facts[key]) for key in _FACTS if facts.get(key) not in (None, "")}
        found.append(Curve(name.rstrip("="), {key: some for key, some in points.items() if some}, told))
    return found
