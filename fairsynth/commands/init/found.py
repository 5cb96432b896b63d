"""What a config is made from: a preset, or what a dataset's folder holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairsynth.commands.init.columns import guessed_columns, told
from fairsynth.config import RunConfig
from fairsynth.config.addresses import check_address
from fairsynth.config.load import load_config, preset_names
from fairsynth.data.dataset import splits_beside, survey
from fairsynth.data.metadata import Metadata
from fairsynth.data.recognise import recognise
from fairsynth.data.storage import Storage
from fairsynth.escaping import enumerated, printable, shortened
from fairsynth.groups import SEPARATOR, Group
from fairsynth.manifest import SPLITS
from fairsynth.preflight import check_words, values_of
from fairsynth.prompts import fill, is_number
from fairsynth.stages.ingest.decide import group_problems

_GUESSED = "GUESSED from the table's values: look whether it is right."
_MOST_WORDS = 200
_MOST_GROUPS = 40
# The models of a folder that no preset is for are pinned as this preset pins them.
_MODELS_OF = "waterbirds"
# How a dataset that lacks splits gets them, the first that helps.
_SPLITS: Sequence[Mapping[str, Any]] = (
    {"data.split_fractions": [0.8, 0.1, 0.1]},
    {"data.split_from": {"test": "val"}},
    {"data.split_from": {"val": "test"}},
    {"data.split_from": {"val": "train", "test": "train"}},
)


@dataclass(frozen=True)
class FoundConfig:
    """A config, and what to say of it: above it (``head``), at a setting (``notes``, by its dotted name), on the terminal."""

    config: RunConfig
    head: Sequence[str]
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def told(self, target: Path) -> Iterator[str]:
        """What the terminal says once the file is written."""
        name = printable(str(target))
        yield f"{name} is written"
        yield from (shortened(f"warning: {printable(warning)}") for warning in self.warnings)
        if self.config.data.format != "demo" and not self.config.data.root:
            yield f"set data.root in {name} to the dataset's folder"
        yield f"next: fairsynth inspect {name}, then fairsynth doctor {name}, then fairsynth run {name}"


def of_preset(preset: str, overrides: Mapping[str, Any]) -> FoundConfig:
    """A preset's settings. Raises ConfigError for an unknown preset or setting."""
    config = load_config(None, preset, {"out": f"runs/{preset}"} | dict(overrides))
    notes = {} if config.data.format == "demo" else {"data.root": ["SET THIS: the dataset's folder."]}
    return FoundConfig(config, [f"The settings of the preset {preset}."], {} if config.data.root else notes)


def of_folder(root: str, preset: str | None, overrides: Mapping[str, Any]) -> FoundConfig:
    """Settings for a dataset: its layout, its groups, words for its values. No image is opened.

    Raises DataError if its metadata cannot be read, ConfigError for an unknown preset or setting.
    """
    asked = _asked(root, preset, overrides)
    config = load_config(None, *asked)
    storage = Storage(config.data.root, config.data.follow_links)
    guesses = dict(guessed_columns(config.data, storage))
    asked = asked[0], asked[1] | guesses
    config = load_config(None, *asked)
    metadata = survey(config.data, storage)
    if "data.split_column" not in asked[1] and (column := next(iter(splits_beside(config.data, storage)), "")):
        guesses["data.split_column"] = column
        asked = asked[0], asked[1] | {"data.split_column": column}
        metadata = survey(load_config(None, *asked).data, storage)
    asked, metadata, splits = _with_splits(asked, metadata)
    config = load_config(None, *asked)
    check_words(config, *values_of(metadata))
    words = _words(config, metadata)
    config = load_config(None, asked[0], asked[1] | {f"data.{name}": named for name, named in words.items() if named})
    codes = [f"{name[:-6]} {value!r}" for name in words for value, word in words[name].items() if is_number(word)]
    warnings = [*told(guesses), *_problems(config, metadata)]
    if codes:
        warnings.insert(
            0, f"{enumerated(codes, most=4)}: numbers say nothing to a model; replace them by words in data.label_names "
            "and data.attribute_names"
        )  # fmt: skip
    head = [f"For the dataset {config.data.root}, of the layout {config.data.format}.", *_table(metadata)]
    return FoundConfig(config, head, _notes(config, metadata, splits) | {key: [_GUESSED] for key in guesses}, warnings)


def _asked(root: str, preset: str | None, overrides: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The preset and the settings that a folder asks for."""
    check_address(root)  # before a folder's whole path is made of it
    where = root if "://" in root else str(Path(root).expanduser().absolute())
    first = load_config(
        None, None, {"data.root": where} | {k: v for k, v in overrides.items() if k.startswith("data.")}
    )
    storage = Storage(first.data.root, first.data.follow_links)
    layout = recognise(storage) if first.data.format == "auto" else first.data.format
    known = layout if layout in preset_names() else None
    changes = {"out": f"runs/{_name(where)}", **dict(overrides), "data.root": where, "data.format": layout}
    if preset is None and known is None:
        models = load_config(None, _MODELS_OF)
        pinned = {f"models.{name}": value for name, value in models.models.model_dump().items()}
        changes = {**pinned, "classify.backbone_revision": models.classify.backbone_revision, **changes}
    if preset is not None and preset != known:
        defaults = RunConfig()
        prompts = {"finetune.prompt": defaults.finetune.prompt, "synthesize.prompt": defaults.synthesize.prompt}
        changes = {**prompts, **changes}
    return preset or known, changes


def _name(root: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", root.rstrip("/").rpartition("/")[2]).strip("-")[:40] or "mine"


def _with_splits(
    asked: tuple[str | None, dict[str, Any]], metadata: Metadata
) -> tuple[tuple[str | None, dict[str, Any]], Metadata, str]:
    """The same with the splits that the dataset lacks, if a way to make them leaves no problem with splits."""
    config = load_config(None, *asked)
    if not any("split" in problem for problem in _problems(config, metadata)):
        return asked, metadata, ""
    for way in _SPLITS:
        other = asked[0], asked[1] | dict(way)
        changed = load_config(None, *other)
        made = survey(changed.data, Storage(changed.data.root, changed.data.follow_links))
        if not any("split" in problem for problem in _problems(changed, made)):
            return other, made, next(iter(way))
    return asked, metadata, ""


def _problems(config: RunConfig, metadata: Metadata) -> Iterator[str]:
    """Why a run would refuse the dataset."""
    yield from metadata.problems
    yield from group_problems(metadata.entries, config.data)


def _words(config: RunConfig, metadata: Metadata) -> dict[str, dict[str, str]]:
    """A word for every value: the config's, the dataset's own, or the value itself with blanks for underscores."""
    labels, attributes = values_of(metadata)
    data = config.data
    if len(data.attribute_column) > 1:
        attributes = {part for attribute in attributes for part in attribute.split(SEPARATOR)}
    values = {"label_names": labels, "attribute_names": attributes if data.attribute == "column" else set()}
    words = {}
    for name, found in values.items():
        known = metadata.words.get(name.removesuffix("_names"), {}) | getattr(data, name)
        named = {value: known.get(value) or _as_words(value) for value in sorted(found, key=_in_order)}
        words[name] = named if len(named) <= _MOST_WORDS else {}
    return words


def _in_order(value: str) -> tuple[float, str]:
    return (float(value), value) if re.fullmatch(r"-?\d{1,9}", value) else (float("inf"), value)


def _as_words(value: str) -> str:
    return " ".join(value.rpartition("=")[2].replace("_", " ").split()) or value


def _table(metadata: Metadata) -> Iterator[str]:
    counts = Counter((entry.label, entry.attribute, entry.split) for entry in metadata.entries)
    groups = sorted({(label, attribute) for label, attribute, _ in counts})
    yield f"Images of each group, {', '.join(SPLITS)}:"
    for label, attribute in groups[:_MOST_GROUPS]:
        numbers = ", ".join(str(counts[label, attribute, split]) for split in SPLITS)
        yield shortened(f"  {printable(label)} / {printable(attribute) or '?'}: {numbers}")
    if len(groups) > _MOST_GROUPS:
        yield f"  and {len(groups) - _MOST_GROUPS} more groups"


def _notes(config: RunConfig, metadata: Metadata, splits: str) -> dict[str, list[str]]:
    notes: dict[str, list[str]] = {
        "models.diffusion": [
            "CHOOSE: the base model. Better: one that knows images like yours; see its licence, which adapters inherit.",
            "To try everything first with the tiny models of the package: fairsynth init DATA --preset demo",
        ]
    }
    if splits:
        notes[splits] = ["The dataset lacks these splits; this makes them."]
    for name in ("label_names", "attribute_names"):
        if any(is_number(word) for word in getattr(config.data, name).values()):
            notes[f"data.{name}"] = ["CHANGE THESE: numbers say nothing to a model."]
    first = min({Group(e.label, e.attribute) for e in metadata.entries}, default=None)
    if first is not None:
        filled = fill(config.synthesize.prompt, config.data, first)
        notes["synthesize.prompt"] = [shortened(f"Of the group {first} it is now: {printable(filled)}")]
    return notes
