"""How many images each group needs, and a row for each image to make. Pure arithmetic."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fairsynth.data.shapes import Shape
from fairsynth.groups import Group
from fairsynth.manifest import image_id, noise_of, seeds_apart
from fairsynth.models.schedule import stackable
from fairsynth.stages.finetune.output import SHARED

# Adapters with fewer images than this to make in a round share batches. With 8 each, stacked adapters make 45 images/s
# and merged ones 35 with the demo's models on a CPU (benchmarks/generate_vs_loop.py); a GPU, emptier still with so
# few at once, should gain more.
STACK_BELOW = 9
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("label", pa.string()),
        ("attribute", pa.string()),
        ("route", pa.string()),
        ("adapter", pa.string()),
        ("adapter_scale", pa.float64()),
        ("second_adapter", pa.string()),
        ("adapter_from", pa.float64()),
        ("cluster", pa.int64()),
        ("prompt", pa.string()),
        ("negative_prompt", pa.string()),
        ("guidance", pa.float64()),
        ("seed", pa.int64()),
        ("round", pa.int64()),
        ("unit", pa.string()),
    ]
)
SHAPED = pa.schema([*SCHEMA, *((name, pa.int64()) for name in Shape._fields)])
"""Of a plan whose images have shapes of their own."""


@dataclass(frozen=True)
class Source:
    """One source of a group's images: the base model (adapter None), or adapters with their prompt.

    ``weight``: its share among the group's sources. ``adapter_from``: share of the denoising steps after which
    the adapters come in.
    """

    route: str
    adapter: str | None
    cluster: int
    prompt: str
    weight: int
    negative_prompt: str = ""
    guidance: float = 7.5
    adapter_scale: float = 1.0
    second_adapter: str | None = None
    adapter_from: float = 0.0

    @property
    def name(self) -> str:
        """A safe name, unique among the sources of a group."""
        what = "+".join(name for name in (self.adapter, self.second_adapter) if name) or "base"
        return f"{self.route}-{what}"

    @property
    def stackable(self) -> bool:
        """Whether its images may share a batch with those of other adapters: those of clusters have the same layers."""
        return self.adapter != SHARED and stackable(vars(self))


ShapesOf = Callable[[Group, Source], Mapping[Shape, int]]
"""In which proportion a source's images of a group have which shapes."""


class ImageShapes:
    """The shapes of training images, which a source's images take in the same proportion.

    Those of what its adapter learnt; where all groups share it, or there is none, those of the group to be made; squares for a
    group without images, of side ``size``. ``adapters``: the images of each; ``groups``: the group of each image that has a shape.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        adapters: Mapping[str, Sequence[str]],
        groups: Mapping[str, Group],
        size: int,
    ) -> None:
        self.square = Shape(size, size)
        self.adapters = {name: Counter(shapes[image] for image in images) for name, images in adapters.items()}
        self.groups: dict[Group, Counter[Shape]] = {}
        for image, shape in shapes.items():
            if image in groups:
                self.groups.setdefault(groups[image], Counter())[shape] += 1

    def __call__(self, group: Group, source: Source) -> Mapping[Shape, int]:
        learnt = self.adapters.get(source.adapter) if source.adapter and source.adapter != SHARED else None
        return learnt or self.groups.get(group) or {self.square: 1}


def quotas(counts: Mapping[Group, int], per_group: int | str, fill: bool = False) -> dict[Group, int]:
    """Accepted images that each group needs, so that all groups are equal.

    ``per_group``: a number, or ``largest``: as many as the largest group has. With ``fill`` the real images
    count too, and a group needs what it lacks.
    """
    target = max(counts.values()) if per_group == "largest" else int(per_group)
    return {group: max(0, target - counts[group]) if fill else target for group in sorted(counts)}


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` split in proportion to the weights, by largest remainder; the parts add up exactly."""
    # In whole numbers: equal remainders stay equal, and the first of them gets one more.
    whole = sum(weights)
    parts, rest = [total * weight // whole for weight in weights], [total * weight % whole for weight in weights]
    for i in sorted(range(len(weights)), key=lambda i: (-rest[i], i))[: total - sum(parts)]:
        parts[i] += 1
    return parts


def plan_images(
    needed: Mapping[Group, int],
    sources: Mapping[Group, Sequence[Source]],
    seed: int,
    round_index: int,
    unit_size: int,
    uniform: bool = False,
    trial: bool = False,
    stack: bool = True,
    earlier: pa.Table | None = None,
    shapes: ShapesOf | None = None,
) -> pa.Table:
    """One row per image to make (``SCHEMA``): the rows of a unit contiguous, the units in the adapters' order.

    A group's images are shared out among its sources by their weights, or evenly with ``uniform``. A row's seed
    depends on (seed, group, source, round, number): not on any other group's plan, and not on how many there are. Two
    rows of a source never begin with the same noise; ``earlier``: the rows of the rounds before. The rows of a ``trial`` have seeds and units of their own. Without ``stack`` no unit has rows of two sources:
    whole UNets cannot share a batch.
    With ``shapes`` rows have a height and a width (``SHAPED``), and those of a unit the same.
    Raises ValueError if a group that needs images has no source.
    """
    to_make, name = [], f"{'trial' if trial else 'r'}{round_index}"
    for group, total in sorted(needed.items()):
        if total and not sources.get(group):
            raise ValueError(f"group {group} needs {total} images and has no source")
        weights = [1 if uniform else source.weight for source in sources.get(group, ())]
        to_make += [(group, s, n) for s, n in zip(sources.get(group, ()), shares(total, weights), strict=True) if n]
    to_make.sort(key=lambda entry: (entry[1].adapter or "", *entry[0], entry[1].name))
    cut = [
        (place, shape, n)
        for place, (group, source, count) in enumerate(to_make)
        for shape, n in _shaped(shapes(group, source) if shapes else None, count)
    ]
    units = _units([(to_make[place][1], shape, n) for place, shape, n in cut], name, unit_size, stack)
    # Of every source the rows of one shape after those of another, which changes no seed.
    parts: list[list[_Part]] = [[] for _ in to_make]
    for (place, shape, _), unit in zip(cut, units, strict=True):
        parts[place].append(_Part(unit, shape))
    taken = _noise(earlier) if earlier is not None and earlier.num_rows else {}
    blocks = [
        _block(*entry, seed, name, round_index, own, taken.get(_key(*entry[:2]), ()))
        for entry, own in zip(to_make, parts, strict=True)
    ]
    table = pa.concat_tables(blocks) if blocks else (SHAPED if shapes else SCHEMA).empty_table()
    # Codes count the units as they first appear, so that the adapters' order is kept; stable within.
    codes = table["unit"].combine_chunks().dictionary_encode().indices.to_numpy()
    return table.take(pa.array(np.argsort(codes, kind="stable"))).combine_chunks()


class _Part(NamedTuple):
    """A source's images of one shape (None: squares): the unit of each."""

    units: np.ndarray[Any, Any]
    shape: Shape | None


def _shaped(weights: Mapping[Shape, int] | None, count: int) -> list[tuple[Shape | None, int]]:
    """How many of a source's images have which shape, the commonest first; None where all are squares."""
    if weights is None:
        return [(None, count)]
    order = sorted(weights, key=lambda shape: (-weights[shape], shape))
    return [(shape, n) for shape, n in zip(order, shares(count, [weights[shape] for shape in order]), strict=True) if n]


def _units(
    to_make: Sequence[tuple[Source, Shape | None, int]], round_name: str, size: int, stack: bool
) -> list[np.ndarray[Any, Any]]:
    """The unit of every row, per source and shape: units hold one source, or several with few rows each, and one shape."""
    few = [
        i for i, (source, _, n) in enumerate(to_make) if stack and source.stackable and n < STACK_BELOW and n <= size
    ]
    shared: dict[int, str] = {}
    # Sources with about as many rows share a unit: in a batch all adapters are filled up to the most rows of any.
    few = sorted(few, key=lambda i: (to_make[i][1] or (), -to_make[i][2], i)) if len(few) > 1 else []
    stacked, number, last = Counter[str | None](), 0, to_make[few[0]][1] if few else None
    for i in few:
        source, shape, n = to_make[i]
        more = Counter({source.adapter: n})
        stacked += more
        if len(stacked) * max(stacked.values()) > size or shape != last:
            stacked, number, last = more, number + 1, shape
        shared[i] = f"{round_name}-stack-{number:05d}"
    return [
        np.full(n, shared[i], object)
        if i in shared
        else np.array([f"{round_name}-{_short(source, i)}-{k // size:05d}" for k in range(n)], object)
        for i, (source, _, n) in enumerate(to_make)
    ]


def _short(source: Source, place: int) -> str:
    return f"{place:04d}-{(source.adapter or 'base')[:48]}"


def _block(
    group: Group,
    source: Source,
    count: int,
    seed: int,
    round_name: str,
    round_index: int,
    parts: Sequence[_Part],
    taken: Collection[int],
) -> pa.Table:
    beginning = f"{round_name}/{group.slug}/{source.name}/"
    keys = [f"{beginning}{number:06d}" for number in range(count)]
    start, path = hashlib.sha256(repr((seed, tuple(group))).encode()), f"synthetic/{tuple(group)!r}/"
    constant = {"label": group.label, "attribute": group.attribute, "round": round_index}
    constant |= {f.name: getattr(source, f.name) for f in fields(source) if f.name != "weight"}
    varying = {
        # Slugs of hostile names can be equal.
        "image_id": [image_id(path + key) for key in keys],
        "seed": seeds_apart(lambda i, again: _seed(start, f"{keys[i]}/{again}" if again else keys[i]), count, taken),
        "unit": np.concatenate([part.units for part in parts]),
    }
    schema = SCHEMA
    if shapes := [part.shape for part in parts if part.shape]:
        schema, counts = SHAPED, [len(part.units) for part in parts]
        varying |= zip(Shape._fields, np.repeat(np.array(shapes), counts, axis=0).T, strict=True)
    columns = [
        pa.array(varying[field.name], field.type)
        if field.name in varying
        else pa.repeat(pa.scalar(constant[field.name], field.type), count)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


_SOURCE = ("label", "attribute", "route", "adapter", "second_adapter")


def _key(group: Group, source: Source) -> tuple[str | None, ...]:
    return (*group, source.route, source.adapter, source.second_adapter)


def _noise(earlier: pa.Table) -> dict[tuple[str | None, ...], list[int]]:
    """The noise that each source's images began with, by ``_key``."""
    plain = pa.schema([*((name, pa.string()) for name in _SOURCE), ("seed", pa.int64())])
    by_source = earlier.select(plain.names).cast(plain).group_by(_SOURCE).aggregate([("seed", "list")])
    keys = zip(*(by_source[name].to_pylist() for name in _SOURCE), strict=True)
    return {
        key: [noise_of(seed) for seed in seeds]
        for key, seeds in zip(keys, by_source["seed_list"].to_pylist(), strict=True)
    }


def _seed(start: Any, key: str) -> int:
    """63 bits of the hash of the run's seed, the group and the row's key."""
    whole = start.copy()
    whole.update(key.encode())
    return int.from_bytes(whole.digest()[:8], "big") >> 1
