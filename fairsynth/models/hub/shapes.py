"""The shapes that a base model's images have with ``models.shapes``, before any of its weights are there."""

from __future__ import annotations

import math

from fairsynth.config import ModelsConfig
from fairsynth.data.shapes import Shape, buckets
from fairsynth.models.hub.at_hand import fetched
from fairsynth.models.hub.check import sides
from fairsynth.models.hub.recognise import recognised
from fairsynth.models.sources import diffusion_source

# Of a model that does not say: known ones need less, and it divides into all of theirs.
_FACTOR = 64
# Diffusers' own calls take no other sides, and cards tell people to make an image again by them.
_OWN_CALLS = 8


def shapes_of(models: ModelsConfig) -> tuple[Shape, ...]:
    """The shapes of a base model's images, the square first; none with ``models.shapes`` square.

    Raises as ``recognised``.
    """
    if models.shapes == "square":
        return ()
    base = recognised(models)
    # Of a hub id the cache may have the first file alone.
    factor, most = sides(base.family, base.folder)
    if factor is None:
        factor, most = sides(base.family, fetched(diffusion_source(models), models.diffusion_revision))
    shapes = buckets(models.image_size, math.lcm(factor or _FACTOR, _OWN_CALLS))
    return tuple(shape for shape in shapes if most is None or max(shape) <= most)
