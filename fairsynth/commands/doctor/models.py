"""Model access: a folder that is whole, or a hub id that is in the cache or may be fetched. No weights are fetched."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fairsynth.commands.doctor.check import Check, gib, one_line
from fairsynth.commands.doctor.storage import existing
from fairsynth.config import RunConfig
from fairsynth.config.suggest import did_you_mean
from fairsynth.config.values import brief
from fairsynth.errors import ConfigError
from fairsynth.exports.terms import check_licence
from fairsynth.models.families.family import Part
from fairsynth.models.families.table import FAMILIES
from fairsynth.models.hub.base_model import with_base
from fairsynth.models.sources import DEMO, SMALL, clip_source, diffusion_source

_HUB_SECONDS = 10.0
_DOWNLOAD = 6 * 2**30  # of a model whose size the hub does not tell: Stable Diffusion 1.5's safetensors and more
# Weights that are fetched: of the model, or of a part of a pipeline; no other spelling of the same ones.
_FETCHED = re.compile(r"(?:\w+/)?(?:diffusion_pytorch_model|model)(?:-\d+-of-\d+)?\.safetensors")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model")


class Source(NamedTuple):
    """A model that a config names: the setting, hub id or folder, and commit."""

    key: str
    place: str
    revision: str | None


def sources(config: RunConfig) -> list[Source]:
    """The pretrained models of a run."""
    models, classify = config.models, config.classify
    found = [
        Source("models.diffusion", diffusion_source(models), models.diffusion_revision),
        Source("models.clip", clip_source(models), models.clip_revision),
    ]
    if classify.backbone != SMALL:
        found.append(Source("classify.backbone", classify.backbone, classify.backbone_revision))
    return found


def model_checks(config: RunConfig, ask_hub: bool = True) -> Iterator[Check]:
    """Each model can be had from this machine. ``ask_hub``: ask whether one that is not cached may be fetched."""
    missing = 0
    for source in sources(config):
        check, size = _check(source, ask_hub)
        missing += size
        if source.key == "models.diffusion" and check.status == "ok":
            check = _refused(config, at_hand=not size) or check
        yield check
    if missing and ask_hub:
        yield _cache_space(missing)


def _refused(config: RunConfig, at_hand: bool) -> Check | None:
    """What a run would refuse its base model for, by the model's description if it is there, and by its licence."""
    try:
        check_licence(with_base(config) if at_hand else config)
    except ConfigError as error:
        told, _, do = " ".join(str(error).split()).removeprefix("models.diffusion: ").rpartition("; ")
        return Check("models.diffusion", "failed", told[:300], do)
    return None


def _check(source: Source, ask_hub: bool) -> tuple[Check, int]:
    """The check, and how many bytes are to be fetched; 0: the model is there, or cannot be."""
    folder = Path(source.place).expanduser()
    if folder.is_dir():
        return _of_folder(source, folder, str(folder)), 0
    if source.place.startswith((".", "/", "~")) or source.place.count("/") > 1:
        do = "give a folder in save_pretrained layout, a hub id or 'demo'"
        return Check(source.key, "failed", f"the folder {source.place} does not exist", do), 0
    if "/" not in source.place and (guess := did_you_mean(source.place, [DEMO])):
        return Check(source.key, "failed", f"{source.place} is no model{guess}", f"set --{source.key} {DEMO}"), 0
    cached = _cached(source)
    if cached is not None:
        return _of_folder(source, cached, f"{source.place} in the cache"), 0
    return _on_hub(source, ask_hub)


def _cached(source: Source) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source.place, revision=source.revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError, ValueError):
        return None


def _on_hub(source: Source, ask_hub: bool) -> tuple[Check, int]:
    fetch = f"hf download {source.place}" + (f" --revision {source.revision}" if source.revision else "")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    if offline or not ask_hub:
        why = "and HF_HUB_OFFLINE is set" if offline else "of this node"
        do = f"fetch it where there is a network, with the same HF_HOME: {fetch}"
        return Check(
            source.key, "failed" if offline else "warning", f"{source.place} is not in the cache {why}", do
        ), _DOWNLOAD
    answer = _answer(source, fetch)
    if isinstance(answer, Check):
        return answer, _DOWNLOAD
    return Check(source.key, "ok", f"{source.place} may be read; the run fetches it ({gib(answer)})"), answer


def _answer(source: Source, fetch: str) -> Check | int:
    """What the hub says if it is asked for the model: why it may not be read, or the bytes of its weights."""
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    page = f"https://huggingface.co/{source.place}"
    try:
        api = HfApi()
        info = api.model_info(source.place, revision=source.revision, timeout=_HUB_SECONDS, files_metadata=True)
        api.auth_check(source.place)
    except hub.GatedRepoError:
        do = f"accept its terms at {page} and log in: hf auth login"
        return Check(source.key, "failed", f"{source.place} is gated, and this account may not read it", do)
    except hub.RevisionNotFoundError:
        do = f"set --{source.key}_revision to one of {page}/commits/main"
        return Check(source.key, "failed", f"{source.place} has no commit {source.revision}", do)
    except hub.RepositoryNotFoundError:
        do = f"check the spelling at {page}, or log in if it is private: hf auth login"
        return Check(source.key, "failed", f"the hub has no model {source.place}, or it is private", do)
    except hub.HFValidationError as error:
        return Check(source.key, "failed", one_line(error), "give a hub id such as OWNER/NAME, a folder, or 'demo'")
    except Exception as error:  # whatever the network does
        do = f"check the network and HTTPS_PROXY, or fetch it elsewhere with the same HF_HOME: {fetch}"
        return Check(source.key, "failed", f"{source.place}: the hub cannot be asked: {type(error).__name__}", do)
    files = info.siblings or ()
    return sum(file.size or 0 for file in files if _FETCHED.fullmatch(file.rfilename)) or _DOWNLOAD


def _cache_space(missing: int) -> Check:
    from huggingface_hub.constants import HF_HUB_CACHE

    base = existing(Path(HF_HUB_CACHE))
    free = shutil.disk_usage(base).free
    found = f"{gib(free)} free at {base}; models that are not there yet take about {gib(missing)}"
    if free < missing:
        return Check("model cache", "failed", found, "free some, or set HF_HOME to a folder on a larger disk")
    return Check("model cache", "ok", found)


def _of_folder(source: Source, folder: Path, shown: str) -> Check:
    try:
        problem = _problem(source.key, folder)
    except OSError as error:
        problem = one_line(error)
    if problem:
        do = "get the model again, or give another folder in save_pretrained layout, or a hub id"
        return Check(source.key, "failed", f"{shown}: {problem}", do)
    return Check(source.key, "ok", f"{shown} is whole")


def _problem(key: str, folder: Path) -> str:
    """What a model's folder lacks, or which file of it is broken; empty if nothing is."""
    if key != "models.diffusion":
        problem = _bad_json(folder / "config.json") or _bad_weights(folder, "model")
        return problem or ("" if key != "models.clip" else _no_tokenizer(folder))
    if bad := _bad_json(folder / "model_index.json"):
        return bad
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    family = FAMILIES.get(str(index.get("_class_name")))
    if family is None:
        return ""  # a run refuses it
    for name, part in family.parts.items():
        if not part.needed and index.get(name) in (None, [None, None]):
            continue
        if bad := _bad_part(folder / name, part):
            return bad
    if not (folder / "scheduler").is_dir():
        return "it has no folder scheduler"
    return _bad_json(folder / "scheduler" / "scheduler_config.json")


def _bad_part(folder: Path, part: Part) -> str:
    if not folder.is_dir():
        return f"it has no folder {folder.name}"
    if "Tokenizer" in part.classes[0]:
        bad = _no_tokenizer(folder)
    else:
        weights = "diffusion_pytorch_model" if part.library == "diffusers" else "model"
        bad = _bad_json(folder / "config.json") or _bad_weights(folder, weights)
    return f"{folder.name}: {bad}" if bad else ""


def _no_tokenizer(folder: Path) -> str:
    return "" if any((folder / name).is_file() for name in _TOKENIZERS) else f"it has no {' or '.join(_TOKENIZERS)}"


def _bad_json(file: Path) -> str:
    if not file.is_file():
        return f"it has no {file.name}"
    try:
        return "" if isinstance(json.loads(file.read_text("utf-8")), dict) else f"{file.name} is no configuration"
    except (ValueError, RecursionError):
        return f"{file.name} is not valid JSON"


def _bad_weights(folder: Path, name: str) -> str:
    """The weights, in one file or in shards that an index names, are there and have all their bytes."""
    files: Sequence[str] = [f"{name}.safetensors"]
    index = folder / f"{name}.safetensors.index.json"
    if index.is_file() and not (folder / files[0]).is_file():
        if bad := _bad_json(index):
            return bad
        named = json.loads(index.read_text("utf-8")).get("weight_map", {})
        if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
            return f"{index.name} is no index of weights"
        files = sorted({*named.values()})
        if odd := next((file for file in files if file != Path(file).name or not file.endswith(".safetensors")), None):
            return f"{index.name} names {brief(odd)}; only safetensors beside it are loaded"
    for file in files:
        if not (folder / file).is_file():
            others = [path.name for path in folder.glob("*.bin")]
            return f"it has no {file}" + (f", but {others[0]}: only safetensors are loaded" if others else "")
        if bad := _truncated(folder / file):
            return f"{file} is broken ({bad})"
    return ""


def _truncated(file: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            return ""
    except (SafetensorError, OSError, MemoryError) as error:
        return one_line(error)
