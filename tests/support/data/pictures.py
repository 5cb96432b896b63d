"""A picture of noise, and what is said of a file that is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fairsynth.config import ImageRules
from fairsynth.data.decode import decode
from fairsynth.data.metadata import BadImage

NOISE = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
PICTURE = Image.fromarray(NOISE)
FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]


def refused(content: bytes, rules: ImageRules | None = None) -> BadImage:
    """The refusal of a file."""
    with pytest.raises(BadImage) as caught:
        decode(content, rules=rules or ImageRules())
    return caught.value


def reason(content: bytes, rules: ImageRules | None = None) -> str:
    """The reason for which a file is refused."""
    return refused(content, rules).reason
