"""Sets of images of a run: the synthetic ones, and the real ones that they stand beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from fairsynth.api.page import groups_html
from fairsynth.config import ANY_IMAGE
from fairsynth.config.suggest import did_you_mean
from fairsynth.data.decode import inspect_image
from fairsynth.data.metadata import BadImage
from fairsynth.data.rules.split_words import exact_split
from fairsynth.errors import ConfigError, DataError
from fairsynth.escaping import enumerated, printable
from fairsynth.groups import Group

if TYPE_CHECKING:
    from datasets import Dataset as HuggingFaceDataset

    from fairsynth.api.torch_images import TorchImages


@dataclass(frozen=True, kw_only=True)
class _Image:
    image_id: str
    label: str
    attribute: str
    path: str
    """Of the file: on disk for synthetic images, inside the dataset for real ones."""
    _read: Callable[[], bytes] = field(repr=False, compare=False)

    @property
    def group(self) -> Group:
        """(label, attribute)."""
        return Group(self.label, self.attribute)

    @property
    def file(self) -> bytes:
        """The bytes of the image's file. Raises DataError if it is not there any more, or another one."""
        return self._read()

    @property
    def image(self) -> Image.Image:
        """The image, upright, as RGB; read anew each time."""
        try:
            return inspect_image(self.file, ANY_IMAGE)[0]
        except BadImage as problem:
            raise DataError(f"image {printable(self.path)!r} cannot be read ({problem.reason})") from None

    def _repr_png_(self) -> bytes | None:
        return self.image._repr_png_()


@dataclass(frozen=True, kw_only=True)
class SyntheticImage(_Image):
    """An accepted synthetic image.

    Examples
    --------
    >>> image = run.synthetic[0]  # doctest: +SKIP
    >>> image.group, image.prompt  # doctest: +SKIP
    (Group(label='high', attribute='building'), 'a photo of a high number on a building')
    >>> image.image.size  # doctest: +SKIP
    (32, 32)
    """

    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class RealImage(_Image):
    """A real image that the run has used; ``split`` is train, val or test.

    Examples
    --------
    >>> run.real.where(split="train")[0].image.size  # doctest: +SKIP
    (32, 32)
    """

    split: str


Kind = TypeVar("Kind", SyntheticImage, RealImage)


class ImageSet(Sequence[Kind], Generic[Kind]):
    """Images with their labels, attributes and facts, in an order that does not change; read one by one when asked for.

    Examples
    --------
    >>> rare = run.synthetic.where(label="high", attribute="building")  # doctest: +SKIP
    >>> len(rare), rare[0].prompt  # doctest: +SKIP
    (300, 'a photo of a high number on a building')
    >>> rare.grid(12)  # a Pillow image, which a notebook shows  # doctest: +SKIP
    """

    def __init__(
        self, table: pa.Table, make: Callable[[Mapping[str, Any]], Kind], known: Mapping[str, Sequence[str]]
    ) -> None:
        self.table = table
        """All facts: a row for each image, in order; ``.table.to_pandas()`` for pandas."""
        self._make: Callable[[Mapping[str, Any]], Kind] = make
        self._known = known

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, place: int) -> Kind: ...
    @overload
    def __getitem__(self, place: slice) -> ImageSet[Kind]: ...
    def __getitem__(self, place: int | slice) -> Kind | ImageSet[Kind]:
        """An image by its place, or a part of the set."""
        if isinstance(place, slice):
            return self._with(self.table.take(pa.array(range(*place.indices(len(self))), pa.int64())))
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} images; place {place} is not among them")
        return self._make(self.table.slice(place % len(self), 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Kind]:
        for batch in self.table.to_batches(1000):
            yield from map(self._make, batch.to_pylist())

    def _with(self, table: pa.Table) -> ImageSet[Kind]:
        return ImageSet(table, self._make, self._known)

    @property
    def labels(self) -> tuple[str, ...]:
        """The dataset's labels, sorted: their places are the classifier's outputs."""
        return tuple(self._known["label"])

    @cached_property
    def counts(self) -> dict[Group, int]:
        """Images of each group that has any."""
        columns = (self.table[name].to_pylist() for name in ("label", "attribute"))
        return {Group(*group): n for group, n in sorted(Counter(zip(*columns, strict=True)).items())}

    def where(self, label: str | None = None, attribute: str | None = None, split: str | None = None) -> ImageSet[Kind]:
        """The images of a label, an attribute, a group (both), a split (validation, training and the like are understood).

        Raises ConfigError for a word that the dataset does not have.
        """
        table = self.table
        for name, value in (("label", label), ("attribute", attribute), ("split", split)):
            if value is None:
                continue
            known = self._known.get(name, ())
            if name == "split" and value not in known:
                value = exact_split(str(value)) or value
            if value not in known:
                there = f"there are: {enumerated(known)}" if known else f"these images have no {name}"
                raise ConfigError(f"no {name} {value!r}{did_you_mean(str(value), known)}; {there}")
            table = table.filter(pc.equal(table[name].cast(pa.string()), value))
        return self._with(table)

    def grid(self, n: int = 24, columns: int = 8, side: int = 96) -> Image.Image:
        """The first ``n`` images as one picture, each in a square of ``side`` pixels; white where there is none."""
        shown = [one.image for one in self[:n]]
        sheet = Image.new("RGB", (columns * side, max(1, -(-len(shown) // columns)) * side), "white")
        for i, image in enumerate(shown):
            scale = (side - 4) / max(image.size)
            how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
            tile = image.resize([max(1, round(length * scale)) for length in image.size], how)
            sheet.paste(tile, (i % columns * side + 2, i // columns * side + 2))
        return sheet

    def as_huggingface(self) -> HuggingFaceDataset:
        """As a ``datasets.Dataset``: the column ``image``, then all facts. The files are read into memory.

        Raises ConfigError if the package ``datasets`` is not installed.
        """
        try:
            import datasets
        except ImportError:
            raise ConfigError("the package datasets is not installed; type: pip install datasets") from None
        files = [{"bytes": one.file, "path": None} for one in self]
        image = pa.array(files, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        facts = {name: column for name, column in zip(self.table.column_names, self.table.columns, strict=True)}
        plain = {n: c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for n, c in facts.items()}
        return datasets.Dataset(pa.table({"image": image, **plain})).cast_column("image", datasets.Image())

    def as_torch(self, transform: Callable[[Image.Image], Any] | None = None) -> TorchImages:
        """As a map-style ``torch.utils.data.Dataset`` of (image, place of its label among ``labels``).

        ``transform`` turns a Pillow image into what is wanted; without it, into a float tensor (3, H, W) from 0 to 1.
        """
        from fairsynth.api.torch_images import TorchImages

        return TorchImages(self, self.labels, transform)

    def __repr__(self) -> str:
        groups = enumerated(f"{group} {n}" for group, n in self.counts.items())
        return f"<ImageSet: {len(self)} images" + (f"; {groups}>" if groups else ">")

    def _repr_html_(self) -> str:
        return groups_html(len(self), self.counts)
