"""Prompts from templates: values are inserted as plain text, never as templates."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fairsynth.config import DataConfig
from fairsynth.groups import Group


def fill(template: str, data: DataConfig, group: Group, token: str = "") -> str:
    """Fill {token}, {label} and {attribute}; superfluous spaces vanish."""
    words: Mapping[str, str] = {
        "token": token,
        "label": data.label_names.get(group.label, group.label),
        "attribute": data.attribute_names.get(group.attribute, group.attribute),
    }
    # One pass with fixed names: a label that itself contains braces stays text.
    filled = re.sub(r"\{(token|label|attribute)\}", lambda match: words[match[1]], template)
    return " ".join(filled.split())
