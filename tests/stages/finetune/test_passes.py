"""Which images an adapter sees when: all equally often, whichever shapes they have, and a step's images of one shape."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.stages.finetune.passes import Passes, Steps, Turns

WIDE, TALL, SQUARE = (4, 2, 4), (4, 4, 2), (4, 3, 3)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7))
@settings(deadline=None)
def test_turns_are_in_proportion_at_all_times(weights: list[int]) -> None:
    turns, whole, had = Turns([Fraction(weight, 7) for weight in weights]), sum(weights), [0] * len(weights)
    for place in range(2 * whole):
        whose, before = turns(place)
        assert before == had[whose]
        had[whose] += 1
        for weight, count in zip(weights, had, strict=True):
            assert abs(count - (place + 1) * weight / whole) < len(weights)
        if (place + 1) % whole == 0:
            assert had == [(place + 1) // whole * weight for weight in weights]


@pytest.mark.parametrize("batch", [1, 3, 4])
@pytest.mark.parametrize("of_image", [None, (0, 2, 0, 1, 0, 2, 0, 0, 2, 0)], ids=["one kind", "three kinds"])
def test_images_of_one_shape_come_as_they_did_before_there_were_shapes(
    batch: int, of_image: tuple[int, ...] | None
) -> None:
    steps, passes = Steps(range(10), [SQUARE] * 10, batch, 5, of_image), Passes(range(10), 5, of_image)
    seen = [image for step in range(12) for image in steps(step)]
    assert seen == [passes(position) for position in range(12 * batch)]


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("counts", [(7, 2, 1), (1, 1, 1), (4, 4, 0), (9, 1, 0)])
def test_every_image_is_seen_equally_often_whatever_its_shape(counts: tuple[int, ...], batch: int) -> None:
    shapes = [shape for shape, n in zip((WIDE, TALL, SQUARE), counts, strict=True) for _ in range(n)]
    steps, seen = Steps(range(len(shapes)), shapes, batch, 3), Counter[int]()
    for step in range(len(shapes)):
        images = steps(step)
        assert len({shapes[image] for image in images}) == 1 and len(images) == batch
        seen.update(images)
    assert seen == dict.fromkeys(range(len(shapes)), batch)


def test_what_comes_depends_on_the_step_alone_and_is_shuffled() -> None:
    shapes = [WIDE, TALL] * 6
    plain, mixed = Steps(range(12), shapes, 3, 3), Steps(range(12), shapes, 3, 3)
    expected = [plain(step) for step in range(24)]
    assert [mixed(step) for step in (23, 0, 7, 7, 3)] == [expected[step] for step in (23, 0, 7, 7, 3)]
    assert expected[:12] != expected[12:], "each pass has an order of its own"
    other = Steps(range(12), shapes, 3, 4)
    assert [other(step) for step in range(24)] != expected
    assert all(shapes[a[0]] == shapes[b[0]] for a, b in zip(map(other, range(24)), expected, strict=True)), (
        "adapters of like images have the same shape at the same step"
    )


def test_a_shape_that_nothing_is_trained_on_does_not_count() -> None:
    shapes = [WIDE, TALL, WIDE, WIDE]
    steps = Steps([0, 2, 3], shapes, 2, 1)
    assert {image for step in range(9) for image in steps(step)} == {0, 2, 3}


def test_kinds_are_seen_equally_often_over_all_shapes() -> None:
    # Six images of the first kind, one of the second, three of the third; the second has no upright one.
    of_image = (0, 2, 0, 1, 0, 2, 0, 0, 2, 0)
    shapes = [TALL, WIDE, TALL, WIDE, WIDE, TALL, TALL, TALL, WIDE, WIDE]
    steps, seen = Steps(range(10), shapes, 3, 1, of_image), Counter[int]()
    for step in range(6 * 6 * 6):
        images = steps(step)
        assert len({shapes[image] for image in images}) == 1
        seen.update(images)
    kinds = Counter[int]()
    for image, count in seen.items():
        kinds[of_image[image]] += count
    assert max(kinds.values()) - min(kinds.values()) <= 6, kinds
    for kind in range(3):
        own = [seen[image] for image in range(10) if of_image[image] == kind]
        assert max(own) - min(own) <= 6, seen
