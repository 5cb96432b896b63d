"""Two finished runs compared: what differs, and what processes that were killed left under private names."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.comparing import differences

# A file is written under such a name before it gets its own. No reader looks at it.
_PRIVATE = re.compile(r"^only in .*(^|/)\.[^/]*[0-9a-f]{32}[^/]*(/.*)?$")


def compared(expected: Path, found: Path) -> tuple[list[str], list[str]]:
    """What differs from the expected run, and private files that only the other has."""
    every = differences(expected, found)
    litter = [one for one in every if one.startswith(f"only in {found}") and _PRIVATE.match(one)]
    return [one for one in every if one not in litter], litter
