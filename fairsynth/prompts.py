"""Prompts from templates: values are inserted as plain text, never as templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from fairsynth.config import DataConfig
from fairsynth.escaping import enumerated
from fairsynth.groups import SEPARATOR, Group


def fill(template: str, data: DataConfig, group: Group, token: str = "") -> str:
    """Fill {token}, {label} and {attribute}; surplus spaces, and commas at the end, vanish.

    A combined attribute takes the words of its parts (``Male=1``). A discovered one has no word of its
    own, so its place stays empty unless ``attribute_names`` gives one.
    """
    words: Mapping[str, str] = {
        "token": token,
        "label": data.label_names.get(group.label, group.label),
        "attribute": _attribute_words(data, group.attribute),
    }
    # One pass with fixed names: a label that itself contains braces stays text.
    filled = re.sub(r"\{(token|label|attribute)\}", lambda match: words[match[1]], template)
    return " ".join(filled.split()).rstrip(" ,")


def wordless(template: str, data: DataConfig, groups: Iterable[Group]) -> list[str]:
    """A remark if a prompt names a label or an attribute by a number alone, which says nothing to a model."""
    remarks = []
    known = sorted(groups)
    for what, words in (("label", {g: data.label_names.get(g.label, g.label) for g in known}),
                        ("attribute", {g: _attribute_words(data, g.attribute) for g in known})):  # fmt: skip
        bare = [group for group, word in words.items() if is_number(word.rpartition("=")[2])]
        if bare:
            values = sorted({part for group in bare for part in getattr(group, what).split(SEPARATOR)})
            asked = enumerated([f'"{value}": WORD' for value in values], most=4)
            remarks.append(
                f"{what} {', '.join(map(repr, values[:4]))}: a number says nothing to a model; a prompt now is "
                f"{fill(template, data, bare[0])!r}; give words: --data.{what}_names '{{{asked}}}'"
            )
    return remarks


def is_number(word: str) -> bool:
    """Whether a word is a number alone."""
    return re.fullmatch(r"[-+]?[0-9.]+", word.strip()) is not None


def _attribute_words(data: DataConfig, attribute: str) -> str:
    names = data.attribute_names
    if attribute in names or data.attribute == "discover":
        return names.get(attribute, "")
    if len(data.attribute_column) > 1:
        return SEPARATOR.join(names.get(part, part) for part in attribute.split(SEPARATOR))
    return attribute
