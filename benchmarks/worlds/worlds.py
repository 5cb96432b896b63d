"""The worlds: four to settle defaults on, five to judge them by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from numpy.random import Generator

from benchmarks.worlds import digits, letters, photos, shapes
from benchmarks.worlds.canvas import Picture
from benchmarks.worlds.sources import Pools, Source
from fairsynth.manifest import TEST, TRAIN, VALIDATION

SETTLE, JUDGE = "settle", "judge"
# Just over the tenth that goes against its label at severity 90 %.
CONFLICTING = 0.12
Counts = dict[str, dict[tuple[str, str], int]]


@dataclass(frozen=True)
class World:
    """A biased dataset.

    ``shows``: what the images of each label show. ``aligned``: each label's attribute in most training images.
    ``phrase``: label and attribute in a prompt. ``train``: aligned training images of each label; ``validation`` and
    ``test``: images of each group. ``absent``: groups without training images. ``flipped``: share of wrong training labels.
    """

    name: str
    role: str
    about: str
    shows: Mapping[str, Sequence[str]]
    aligned: Mapping[str, str]
    phrase: str
    pools: Callable[[Sequence[str], Mapping[str, int], Generator], Pools]
    draw: Callable[[Source, str, Generator], Picture]
    validation: int
    train: int = 300
    test: int = 100
    absent: frozenset[tuple[str, str]] = frozenset()
    flipped: float = 0.0

    @property
    def attributes(self) -> list[str]:
        """All attributes, in the labels' order."""
        return list(self.aligned.values())

    @property
    def arguments(self) -> list[str]:
        """Arguments for fairsynth: prompts that fit."""
        return [
            *("--finetune.prompt", f"a photo of a {{token}} {self.phrase}"),
            *("--synthesize.prompt", f"a photo of a {self.phrase}"),
        ]

    def counts(self, size: float = 1.0) -> Counts:
        """Images of each group in each split before labels are flipped; ``size`` scales them all."""
        held_out = {
            split: {(y, a): _scaled(n, size) for y in self.shows for a in self.attributes}
            for split, n in ((VALIDATION, self.validation), (TEST, self.test))
        }
        train = {group: n for label in self.shows for group, n in self._train(label, size).items()}
        return {TRAIN: train, **held_out}

    def _train(self, label: str, size: float) -> dict[tuple[str, str], int]:
        """The label's training groups: the aligned one, and the others with about the same share each."""
        aligned = _scaled(self.train, size)
        others = [a for a in self.attributes if a != self.aligned[label] and (label, a) not in self.absent]
        against = math.ceil(aligned * CONFLICTING)
        shares = {(label, a): (against + i) // len(others) for i, a in enumerate(others)}
        return {(label, self.aligned[label]): aligned, **shares}


def _scaled(n: int, size: float) -> int:
    return max(1, round(n * size))


WORLDS = {
    world.name: world
    for world in (
        World(
            "tint",
            SETTLE,
            "handwritten digits in amber or teal ink",
            {"open": "12357", "closed": "0689"},
            {"open": "amber", "closed": "teal"},
            "{label} digit in {attribute} ink",
            digits.pools,
            digits.tint,
            validation=40,
        ),
        World(
            "texture",
            SETTLE,
            "drawn shapes, filled with stripes, dots or checks",
            {"disc": ["disc"], "square": ["square"], "triangle": ["triangle"]},
            {"disc": "stripes", "square": "dots", "triangle": "checks"},
            "{label} of {attribute}",
            shapes.pools,
            shapes.texture,
            train=200,
            validation=30,
        ),
        World(
            "corner",
            SETTLE,
            "letters on photographs, with a star or a ring in some corner",
            {"vowel": "AEOU", "consonant": "HKNR"},
            {"vowel": "star", "consonant": "ring"},
            "{label} letter with a {attribute}",
            letters.pools,
            letters.corner,
            validation=50,
        ),
        World(
            "position",
            SETTLE,
            "small handwritten digits in the left or right half",
            {"lower": "01234", "upper": "56789"},
            {"lower": "left", "upper": "right"},
            "{label} digit on the {attribute}",
            digits.pools,
            digits.position,
            validation=60,
        ),
        World(
            "thickness",
            JUDGE,
            "handwritten digits, drawn anew with a thin or a thick pen",
            {"straight": "147", "round": "0689"},
            {"straight": "thin", "round": "thick"},
            "{label} digit of {attribute} strokes",
            digits.pools,
            digits.thickness,
            validation=40,
        ),
        World(
            "frame",
            JUDGE,
            "pieces of a temple or of a blossom, framed or not",
            {"temple": ["china"], "petal": ["flower"]},
            {"temple": "framed", "petal": "bare"},
            "{attribute} {label}",
            photos.pools,
            photos.frame,
            validation=50,
        ),
        World(
            "blur",
            JUDGE,
            "letters on photographs, sharp or blurred",
            {"angular": "AKVXZ", "curved": "CGOQS"},
            {"angular": "sharp", "curved": "blurred"},
            "{attribute} {label} letter",
            letters.pools,
            letters.blur,
            validation=60,
        ),
        World(
            "many",
            JUDGE,
            "handwritten digits on four families of colours, two groups absent from training",
            {"first": "01", "second": "23", "third": "45", "fourth": "6789"},
            {"first": "rose", "second": "moss", "third": "sky", "fourth": "sand"},
            "{label} digit on {attribute}",
            digits.pools,
            digits.many,
            train=100,
            validation=30,
            test=50,
            absent=frozenset({("first", "sky"), ("third", "sand")}),
        ),
        World(
            "noisy",
            JUDGE,
            "handwritten digits on a dark or a light ground, a tenth of the training labels wrong",
            {"lesser": "01234", "greater": "56789"},
            {"lesser": "dark", "greater": "light"},
            "{label} digit on a {attribute} ground",
            digits.pools,
            digits.noisy,
            validation=50,
            flipped=0.1,
        ),
    )
}
