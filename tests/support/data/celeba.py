"""CelebA, as it is published and as others pass it on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tests.support.data.dataset_files import SPLITS, Sizes, image, put
from tests.support.datasets import write_rows

CELEBA: Sizes = {
    "train": (71629, 66874, 22880, 1387),
    "val": (8535, 8276, 2874, 182),
    "test": (9767, 7535, 2480, 180),
}
# In the order of the published list.
CELEBA_ATTRIBUTES = [
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
]


def celeba_rows(group_sizes: Sizes, seed: int = 0) -> list[tuple[str, int, int, int]]:
    """(name, partition, Blond_Hair, Male) of images in these groups, in random order."""
    members = [
        (SPLITS.index(split), y, a)
        for split, counts in group_sizes.items()
        for (y, a), n in zip(((-1, -1), (-1, 1), (1, -1), (1, 1)), counts, strict=True)
        for _ in range(n)
    ]
    random.Random(seed).shuffle(members)
    return [(f"{number:06d}.jpg", *member) for number, member in enumerate(members, start=1)]


def _attribute_values(blond: int, male: int) -> list[str]:
    values = ["-1"] * len(CELEBA_ATTRIBUTES)
    values[9], values[20], values[39] = str(blond), str(male), str(-male)
    return values


def celeba(
    path: Path,
    rows: Sequence[tuple[str, int, int, int]] | None = None,
    form: str = "txt",
    lists: tuple[str, str] = ("", ""),
    images: str = "img_align_celeba",
) -> Path:
    """CelebA with its original .txt or with .csv lists in these folders; the partition list has another order."""
    rows = celeba_rows({split: (2, 2, 1, 1) for split in SPLITS}) if rows is None else rows
    shuffled = random.Random(1).sample(rows, len(rows))
    if form == "txt":
        # The published list separates by one or two spaces, so that columns line up, and ends lines with a space.
        body = "".join(f"{name} {' '.join(f'{v:>2}' for v in _attribute_values(y, a))}\n" for name, _, y, a in rows)
        put(path / lists[0] / "list_attr_celeba.txt", f"{len(rows)}\n{' '.join(CELEBA_ATTRIBUTES)} \n{body}")
        put(path / lists[1] / "list_eval_partition.txt", "".join(f"{name} {s}\n" for name, s, _, _ in shuffled))
    else:
        attributes = [(name, *_attribute_values(y, a)) for name, _, y, a in rows]
        write_rows(path / lists[0] / "list_attr_celeba.csv", ("image_id", *CELEBA_ATTRIBUTES), attributes)
        partition = [(name, s) for name, s, _, _ in shuffled]
        write_rows(path / lists[1] / "list_eval_partition.csv", ("image_id", "partition"), partition)
    for number, (name, *_) in enumerate(rows[:24]):
        put(path / images / name, image(number))
    return path
