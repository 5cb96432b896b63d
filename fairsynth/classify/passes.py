"""How often an epoch goes through its images, and how long a training takes beside others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairsynth.classify.images import Data
    from fairsynth.classify.methods import Phase

# Strongly changed images are harder to learn: an epoch has about as many of them, in several passes over few images.
IMAGES_PER_EPOCH = 2500


def passes(n_images: int) -> int:
    """Passes over this many images in an epoch of strong changes."""
    return max(1, round(IMAGES_PER_EPOCH / n_images))


def effort(phases: Iterable[Phase], data: Data) -> int:
    """About how many images go through the whole network in a training's phases."""
    real, synthetic = len(data.train), len(data.synthetic)
    sizes = {"synthetic": synthetic, "mixed": real + synthetic, "filled": real + synthetic}
    whole = 0
    for phase in phases:
        images = sizes.get(phase.images, real) + (len(data.validation) if phase.validation else 0)
        repeats = passes(images) if phase.strong and images else 1
        whole += images if phase.head_only else phase.epochs * images * repeats
    return whole
