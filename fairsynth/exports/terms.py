"""Licences of base model and dataset, and what is to be known about images of people, before anything is spent."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fairsynth.config import RunConfig
from fairsynth.models.sources import diffusion_source, public_name

_UNKNOWN = (
    "unknown to fairsynth: look it up where the model comes from, for generated images and for models trained on them"
)
_CONFIRM = "to be confirmed by you: fairsynth has not read it with this copy"
_OWN = "unknown to fairsynth: whose images these are, and what they may be used for, is for you to know"


def model_terms(config: RunConfig) -> dict[str, str]:
    """Name, licence, and what it says of generated images and of models trained on them; no legal advice."""
    source = diffusion_source(config.models)
    entry = _by_id(config.models.diffusion) or _of_folder(Path(source).expanduser())
    name = public_name(config.models.diffusion)
    if entry is None:
        return {"model": name, "licence": _UNKNOWN, "generated": "unknown", "trained": "unknown", "recognised": ""}
    known = {key: str(entry[key]) for key in ("licence", "generated", "trained")}
    return {"model": name, **known, "recognised": str(entry["name"])}


def dataset_terms(config: RunConfig, layout: str) -> str:
    """What is known of the dataset's terms, from its layout."""
    known = _content()["datasets"].get(layout)
    if known is None:
        return _OWN
    return str(known) if layout == "demo" else f"{known} ({_CONFIRM})"


def of_people(layout: str) -> bool:
    """Whether a dataset of this layout is known to show people."""
    return layout in _content()["people"]


def privacy(layout: str) -> list[str]:
    """What to know about privacy; empty for the built-in dataset and for birds."""
    content = _content()
    if layout in content["people"]:
        return list(content["privacy"])
    return [] if layout in content["datasets"] else [content["privacy_unknown"]]


def _by_id(model: str) -> dict[str, Any] | None:
    wanted = model.casefold()
    for entry in _content()["models"]:
        if any(wanted == name or (name != "demo" and wanted.startswith(name)) for name in entry["ids"]):
            return dict(entry)
    return None


def _of_folder(folder: Path) -> dict[str, Any] | None:
    """By the licence that the folder's card states, or else by the pipeline's class and text encoder."""
    licence = _stated_licence(folder / "README.md")
    if licence:
        return next((dict(e) for e in _content()["models"] if licence in e.get("licences", ())), None)
    try:
        content = json.loads((folder / "model_index.json").read_text("utf-8"))
        kind = str(content.get("_class_name", ""))
        origin = str(content.get("_name_or_path", ""))
    except (OSError, ValueError, AttributeError):
        return None
    # Others publish their own models of this class under terms of their own.
    found = _by_id(origin) if origin else None
    return found if found and kind in found.get("classes", (kind,)) else None


def _stated_licence(card: Path) -> str:
    """The field ``license`` at the head of a model card; empty if there is none."""
    try:
        lines = card.read_text("utf-8", errors="replace")[:20_000].splitlines()
    except OSError:
        return ""
    head = lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
    found = [line.partition(":")[2] for line in head if line.startswith("license:")]
    return found[0].strip().strip("\"'").casefold() if found else ""


@cache
def _content() -> dict[str, Any]:
    text = (resources.files("fairsynth") / "exports" / "terms.json").read_text("utf-8")
    return json.loads(text)  # type: ignore[no-any-return]
