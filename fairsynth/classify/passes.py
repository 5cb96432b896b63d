"""How often an epoch goes through its images."""

from __future__ import annotations

# Strongly changed images are harder to learn: an epoch has about as many of them, in several passes over few images.
IMAGES_PER_EPOCH = 2500
# With exchanged styles they are harder still (docs/worlds.md).
STYLES_TIMES = 4


def passes(n_images: int, styles: bool = False) -> int:
    """Passes over this many images in an epoch of strong changes, with exchanged ``styles`` or without."""
    return max(1, round(IMAGES_PER_EPOCH * (STYLES_TIMES if styles else 1) / n_images))
