"""Licences of base model and dataset, and what is to be known about images of people, before anything is spent."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fairsynth.config import RunConfig
from fairsynth.errors import ConfigError
from fairsynth.escaping import printable
from fairsynth.models.sources import diffusion_source, is_demo, public_name

_UNKNOWN = (
    "unknown to fairsynth: look it up where the model comes from, for generated images and for models trained on them"
)
_CONFIRM = "to be confirmed by you: fairsynth has not read it with this copy"
_OWN = "unknown to fairsynth: whose images these are, and what they may be used for, is for you to know"


def model_terms(config: RunConfig) -> dict[str, str]:
    """Name, licence, and what it says of generated images and of models trained on them; no legal advice."""
    entry, name = _of_model(config), public_name(config.models.diffusion)
    if entry is None:
        return {"model": name, "licence": _UNKNOWN, "generated": "unknown", "trained": "unknown", "recognised": ""}
    known = {key: str(entry[key]) for key in ("licence", "generated", "trained")}
    return {"model": name, **known, "recognised": str(entry["name"])}


def terms_in_words(config: RunConfig) -> str:
    """The licence of the base model and what it says, for cards, without a full stop."""
    terms = model_terms(config)
    said = (
        f"; its images: {terms['generated']}; models trained on them: {terms['trained']}" if terms["recognised"] else ""
    )
    return f"{terms['model']}: {terms['licence']}{said}"


def check_licence(config: RunConfig) -> None:
    """Raise ConfigError for a base model under a licence for research alone, unless ``models.accept_licence`` names that."""
    entry, given = _of_model(config), config.models.accept_licence
    if entry is None or "refused" not in entry or (given or "").casefold() == entry["accept"]:
        return
    told = f"; models.accept_licence is {printable(given)!r}, which is not that licence" if given else ""
    raise ConfigError(
        f"models.diffusion: {printable(public_name(config.models.diffusion))!r} is under the {entry['licence']}: "
        f"{entry['refused']}{told}. If it allows what you do, say so: --models.accept_licence {entry['accept']}; else give a "
        "base model under another licence (docs/base-models.md)"
    )


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


def _of_model(config: RunConfig) -> dict[str, Any] | None:
    """What is known of the base model; None if it is not recognised."""
    return _by_id(config.models.diffusion) or _of_folder(Path(diffusion_source(config.models)).expanduser())


def _by_id(model: str) -> dict[str, Any] | None:
    wanted = model.casefold()
    for entry in _content()["models"]:
        if any(wanted == name or (not is_demo(name) and wanted.startswith(name)) for name in entry["ids"]):
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
    """The licence at the head of a model card, by its name if it is none of the usual ones; empty if there is none."""
    try:
        lines = card.read_text("utf-8", errors="replace")[:20_000].splitlines()
    except OSError:
        return ""
    head = lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
    fields = {key: value.strip().strip("\"'").casefold() for key, _, value in (line.partition(":") for line in head)}
    licence = fields.get("license", "")
    return fields.get("license_name", "") if licence == "other" else licence


@cache
def _content() -> dict[str, Any]:
    text = (resources.files("fairsynth") / "exports" / "terms.json").read_text("utf-8")
    return json.loads(text)  # type: ignore[no-any-return]
