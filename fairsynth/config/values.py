"""The one spelling of a value, in datasets and in the settings that name it."""

from __future__ import annotations

import re
import unicodedata

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,14}))\.0*")


def plain_value(text: str) -> str:
    """A value in one spelling: whole numbers without a point (1.0 is 1, as in typed tables), Unicode composed (NFC)."""
    if text.isascii():
        whole = _WHOLE.fullmatch(text) if "." in text else None
        return str(int(whole[1])) if whole else text
    return unicodedata.normalize("NFC", text)
