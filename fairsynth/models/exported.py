"""By which class a classifier in transformers' layout is read: the one that its kind has in transformers, and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairsynth.errors import ConfigError
from fairsynth.models.hub.foreign import check_folder


def classifier_class(folder: Path) -> Any:
    """The class in transformers for the model of a folder.

    An Auto class would look at ``auto_map``, and ask at a terminal whether to run the code that it names. Raises
    ConfigError for a folder that is no such classifier, or names what is not to be loaded (``models.hub.foreign``).
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    check_folder("the classifier", folder)
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
        name = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[kind]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{str(folder)!r} is no classifier: its config.json names no kind of image classifier that transformers has"
        ) from error
    return getattr(transformers, name if isinstance(name, str) else name[0])
