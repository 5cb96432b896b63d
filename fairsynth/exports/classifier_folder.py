"""Reads a classifier's folder, which may come from anybody: facts that are checked, and a network of safetensors alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairsynth.errors import ConfigError

_MOST_BYTES, _MOST_LABELS, _LARGEST_SIDE = 8 << 20, 10_000, 4096
_LARGEST_WEIGHTS, _MOST_LAYERS = 4 << 30, 1000
_DEPTHS = ("depths", "num_hidden_layers", "num_layers", "encoder_layers", "n_layer")
# Of a configuration: what makes transformers fetch or build something else than the network that it names.
_NOT_TAKEN = ("auto_map", "custom_pipelines", "quantization_config", "attn_implementation", "_attn_implementation")


def labels_of(folder: Path) -> tuple[str, ...]:
    """A classifier's labels in the order of its outputs, without loading it. Raises ConfigError if they make no sense."""
    names = _facts(folder, "config.json").get("id2label")
    if not isinstance(names, dict) or not 0 < len(names) <= _MOST_LABELS:
        raise _broken(folder, f"config.json has no id2label of 1 to {_MOST_LABELS:,} labels")
    found = [names.get(str(place)) for place in range(len(names))]
    if not all(isinstance(name, str) for name in found):
        raise _broken(folder, "id2label in config.json must name the outputs 0, 1, 2, ...")
    return tuple(map(str, found))


def image_size(folder: Path) -> int:
    """The side of a classifier's images in pixels. Raises ConfigError if it makes no sense."""
    size = _facts(folder, "preprocessor_config.json").get("crop_size")
    side = size.get("height") if isinstance(size, dict) else None
    if not isinstance(side, int) or isinstance(side, bool) or not 0 < side <= _LARGEST_SIDE:
        raise _broken(folder, f"crop_size.height in preprocessor_config.json must be 1 to {_LARGEST_SIDE}")
    return side


def check_weights(folder: Path) -> None:
    """Raise ConfigError for weights that are no safetensors file, whole; no tensor is read."""
    from safetensors import SafetensorError, safe_open

    path = folder / "model.safetensors"
    try:
        if (size := path.stat().st_size) > _LARGEST_WEIGHTS:
            raise _broken(folder, f"model.safetensors has {size:,} bytes; {_LARGEST_WEIGHTS:,} may be")
        with safe_open(path, framework="numpy"):
            return
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise _broken(folder, f"model.safetensors is broken ({' '.join(str(error).split())[:200]})") from None


def network(folder: Path) -> Any:
    """The classifier's network, ready to classify. Raises ConfigError for one that cannot be loaded."""
    from transformers.utils import logging

    from fairsynth.models.exported import classifier_class

    n, config = len(labels_of(folder)), _facts(folder, "config.json")
    if taken := [key for key in _NOT_TAKEN if config.get(key)]:
        raise _broken(folder, f"config.json has {taken[0]}, which is not followed")
    if (deepest := max((_total(config.get(key)) for key in _DEPTHS), default=0)) > _MOST_LAYERS:
        raise _broken(folder, f"config.json asks for {deepest:,} layers; {_MOST_LAYERS:,} may be")
    if config.get("num_labels", n) != n:
        raise _broken(folder, f"config.json has {n} labels and says num_labels {str(config['num_labels'])[:20]}")
    check_weights(folder)
    network_class = classifier_class(folder)
    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # its report of what does not fit is in colours, whatever the terminal
    try:
        model, told = network_class.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except MemoryError:
        raise _broken(folder, "it needs more memory than there is") from None
    except Exception as error:  # whatever a hostile file makes the libraries raise
        raise _broken(folder, " ".join(str(error).split())[:200] or type(error).__name__) from None
    finally:
        logging.set_verbosity(before)
    if lacking := sorted(told["missing_keys"]):
        raise _broken(folder, f"{len(lacking)} of its weights are missing, first {lacking[0]}")
    return model.eval()


def _total(value: Any) -> int:
    """The sum of a number or of a list of them; 0 for anything else, which the network's own class refuses."""
    parts = value if isinstance(value, list) else [value]
    return sum(part for part in parts if isinstance(part, int) and part > 0)


def _facts(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        if not path.is_file():
            raise _broken(folder, f"it has no file {name}")
        if path.stat().st_size > _MOST_BYTES:
            raise _broken(folder, f"{name} has {path.stat().st_size:,} bytes")
        facts = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(folder, f"{name} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(facts, dict):
        raise _broken(folder, f"{name} is no configuration")
    return facts


def _broken(folder: Path, why: str) -> ConfigError:
    return ConfigError(f"the classifier in {folder} cannot be loaded: {why}; get it again, or finish its run again")
