"""How often an epoch goes through its images."""

from __future__ import annotations

# Strongly changed images are harder to learn: an epoch has about as many of them, in several passes over few images.
IMAGES_PER_EPOCH = 2500


def passes(n_images: int) -> int:
    """Passes over this many images in an epoch of strong changes."""
    return max(1, round(IMAGES_PER_EPOCH / n_images))
