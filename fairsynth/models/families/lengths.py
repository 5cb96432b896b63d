"""Whether models read prompts to their ends. What goes beyond a model's context is cut, and the attribute comes last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fairsynth.errors import DataError

# Characters of a prompt that are shown.
_SHOWN = 160
SHORTER = (
    "give shorter words for the values (data.label_names, data.attribute_names), or a shorter template "
    "(synthesize.prompt, finetune.prompt)"
)


def require_whole(tokenizer: Any, texts: Iterable[str], limit: int, model: str, advice: str = SHORTER) -> None:
    """Raise DataError for the first text with more than ``limit`` tokens, the model's own first and last one included.

    ``model``: its setting, for people; ``advice``: what to type.
    """
    for text in dict.fromkeys(texts):
        tokens = len(tokenizer(text, truncation=False, verbose=False).input_ids)
        if tokens > limit:
            shown = repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
            raise DataError(
                f"the prompt {shown} has {tokens} tokens, and {model} reads {limit}: its end would be lost; {advice}"
            )
