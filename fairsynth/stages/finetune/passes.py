"""Which images an adapter sees at each step: in shuffled passes, so that all are seen equally often.

A step's images have one shape, for they go through the network as one batch. Everything here is a function of the step and
of what an adapter is made from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch

from fairsynth.manifest import seed_for

LatentShape = tuple[int, ...]


def generator(*key: object) -> torch.Generator:
    """A fresh one for these words."""
    # Two keys in 2**32 share their draws (manifest.noise_of). Steps that do see other images with the same noise.
    return torch.Generator().manual_seed(seed_for(*key))


def shuffled(n: int, *key: object) -> list[int]:
    """The numbers below ``n`` in the order that these words give."""
    return torch.randperm(n, generator=generator(*key)).tolist()  # type: ignore[no-any-return]


class Passes:
    """Images of one shape: ``passes(position)`` is the image at a place of an endless sequence.

    With ``of_image`` (each image's kind) the kinds take turns in random order, and each kind's images come in passes.
    """

    def __init__(self, images: Sequence[int], seed: int, of_image: Sequence[int] | None = None) -> None:
        self.seed, self.kinds = seed, of_image is not None
        self._members = [list(images)] if of_image is None else members(images, of_image)
        self._passes: dict[int, tuple[int, list[int]]] = {}

    def __call__(self, position: int) -> int:
        turn, kind = divmod(position, len(self._members))
        if self.kinds:
            kind = shuffled(len(self._members), self.seed, "turn", turn)[kind]
        own = self._members[kind]
        number, place = divmod(turn, len(own))
        if self._passes.get(kind, (-1, []))[0] != number:
            # The words of a pass are those from before kinds: they decide what known adapters become.
            words = ("pass", kind, number) if self.kinds else ("pass", number)
            self._passes[kind] = number, [own[i] for i in shuffled(len(own), self.seed, *words)]
        return self._passes[kind][1][place]


class Steps:
    """``steps(step)``: the ``batch`` images of a step, of one shape.

    ``shapes``: that of every image, by its number. Of several shapes each has its turns in proportion to its images, as evenly
    spread as whole steps allow: so adapters of like images have the same shape at the same step, and one pass for all of them.
    With ``of_image`` each kind is seen as often as the others over all shapes, whichever its images have.
    """

    def __init__(
        self,
        images: Sequence[int],
        shapes: Sequence[LatentShape],
        batch: int,
        seed: int,
        of_image: Sequence[int] | None = None,
    ) -> None:
        self.batch = batch
        one_shape = len({shapes[image] for image in images}) <= 1
        self._one = Passes(images, seed, of_image) if one_shape else None
        self._mixed = None if one_shape else _Mixed(images, shapes, seed, of_image)

    def __call__(self, step: int) -> list[int]:
        if self._one is not None:
            return [self._one(step * self.batch + i) for i in range(self.batch)]
        assert self._mixed is not None
        return self._mixed(step, self.batch)


class _Mixed:
    """Images of several shapes. A kind's share of a shape's turns is the shape's share of the kind's images."""

    def __init__(
        self, images: Sequence[int], shapes: Sequence[LatentShape], seed: int, of_image: Sequence[int] | None
    ) -> None:
        kinds = [list(images)] if of_image is None else members(images, of_image)
        # By shape and kind, in an order that depends on the images alone.
        cells = {
            shape: {
                kind: its
                for kind, own in enumerate(kinds)
                if (its := [image for image in own if shapes[image] == shape])
            }
            for shape in sorted({shapes[image] for image in images})
        }
        shares = [[Fraction(len(its), len(kinds[kind])) for kind, its in own.items()] for own in cells.values()]
        self._shapes, self._kinds = Turns([sum(own, Fraction()) for own in shares]), [Turns(own) for own in shares]
        self._passes = [
            [Passes(its, seed_for(seed, "shape", *shape, kind)) for kind, its in own.items()]
            for shape, own in cells.items()
        ]

    def __call__(self, step: int, batch: int) -> list[int]:
        shape, before = self._shapes(step)
        turns = (self._kinds[shape](before * batch + i) for i in range(batch))
        return [self._passes[shape][kind](turn) for kind, turn in turns]


class Turns:
    """Whose turn it is at each place of an endless sequence, and how many turns it has had: in proportion to weights.

    Evenly spread: each turn goes to whoever is furthest behind, the first of equals (nginx's smooth weighted round robin). After
    as many turns as the whole weights add up to, each has had exactly its own. Places are known by going through all before.
    """

    def __init__(self, weights: Sequence[Fraction]) -> None:
        whole = math.lcm(*(weight.denominator for weight in weights))
        self.weights = [int(weight * whole) for weight in weights]
        self._behind, self._had = [0] * len(weights), [0] * len(weights)
        self._known: list[tuple[int, int]] = []

    def __call__(self, place: int) -> tuple[int, int]:
        while len(self._known) <= place:
            self._behind = [behind + weight for behind, weight in zip(self._behind, self.weights, strict=True)]
            whose = max(range(len(self.weights)), key=self._behind.__getitem__)
            self._behind[whose] -= sum(self.weights)
            self._known.append((whose, self._had[whose]))
            self._had[whose] += 1
        return self._known[place]


def members(images: Sequence[int], of_image: Sequence[int]) -> list[list[int]]:
    """The images of every kind that has some."""
    return [[i for i in images if of_image[i] == one] for one in sorted({of_image[i] for i in images})]
