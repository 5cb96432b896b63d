"""The one spelling of a value and of a column's name, in datasets and in the settings that name them."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from functools import lru_cache

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,14}))\.0*")


def plain_value(text: str) -> str:
    """A value in one spelling: whole numbers without a point (1.0 is 1, as in typed tables), Unicode composed (NFC)."""
    if text.isascii():
        whole = _WHOLE.fullmatch(text) if "." in text else None
        return str(int(whole[1])) if whole else text
    return unicodedata.normalize("NFC", text)


@lru_cache(maxsize=4096)
def spelled(name: str) -> str:
    """A column's name without what differs between programs: case, outer blanks, marks, blank or hyphen for _."""
    plain = unicodedata.normalize("NFC", name).replace("\ufeff", "").strip().casefold()
    return re.sub(r"[\s-]+", "_", plain)


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 200
_BRIEF.maxlong, _BRIEF.maxlevel = 40, 4
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxset = _BRIEF.maxdict = 20


def brief(value: object) -> str:
    """A value for a message, as ``repr`` shows it, but of bounded length, whatever it holds."""
    return _BRIEF.repr(value)
