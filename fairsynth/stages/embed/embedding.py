"""CLIP vectors of training and validation images, VAE posteriors of the former, a unit at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsynth.config import ImageRules, ModelsConfig
from fairsynth.data.copies import THUMBNAIL_BYTES, thumbnails
from fairsynth.data.decode import decode_shaped, decode_square
from fairsynth.data.location import ImageReader, same_content
from fairsynth.data.metadata import BadImage
from fairsynth.data.shapes import Shape, joined, parted
from fairsynth.data.storage import Storage
from fairsynth.data.unit_rows import PlanRows
from fairsynth.data.vectors import ragged, vectors
from fairsynth.manifest import SET_ASIDE, TRAIN, VALIDATION

VERSION = 3
# Units by split: validation images serve comparison, and no adapter learns from them.
PREFIXES = {TRAIN: "images", VALIDATION: "validation"}
PLAN = pa.schema([(name, pa.string()) for name in ("image_id", "path", "location", "sha256")])


def fact_column(name: str) -> str:
    """The column of what the base model is told of an image besides its text (``Family.image_facts``)."""
    return f"image_{name}"


def is_held_out(unit: str) -> bool:
    """Whether a unit is of validation images."""
    return unit.startswith(PREFIXES[VALIDATION])


def plan_rows(images: pa.Table) -> pa.Table:
    """The rows to embed (``PLAN``) of a manifest's, ordered by image_id; images that share a file come in its order."""
    wanted = images.select(PLAN.names)
    alone = pc.equal(wanted["location"], "")
    keys = {"file": pc.if_else(alone, "", wanted["path"]), "image_id": wanted["image_id"]}
    return wanted.take(pc.sort_indices(pa.table(keys), [(name, "ascending") for name in keys]))


class DecodeUnit:
    """CPU work: read and decode the images of one unit to one size.

    Returns ``pixels`` uint8 (N, S, S, 3), ``sizes`` int64 (N, 2), height and width before, ``good`` (rows decoded) and
    ``bad`` (rows with a reason). With ``shapes``, for images that adapters learn from, also ``shapes`` int64 (N, 2), the nearest
    one of each, and ``whole``, their pixels one behind the other (``data.shapes.parted``).
    Raises DataError if a file's content is not what ingest saw.
    """

    def __init__(
        self, storage: Storage, rows: PlanRows, size: int, rules: ImageRules, shapes: Sequence[Shape] = ()
    ) -> None:
        self.reader, self.rows, self.size, self.rules = ImageReader(storage, rules.max_bytes), rows, size, rules
        self.shapes = tuple(shapes)

    def __call__(self, name: str) -> dict[str, Any]:
        pixels, sizes, good, bad = [], [], [], []
        whole: list[NDArray[np.uint8]] | None = [] if self.shapes and not is_held_out(name) else None
        for row in self.rows(name)["rows"]:
            try:
                content = same_content(self.reader, row)
                if whole is None:
                    square, before = decode_square(content, self.size, self.rules)
                else:
                    square, shaped, before = decode_shaped(content, self.size, self.shapes, self.rules)
                    whole.append(shaped)
                pixels.append(square)
                sizes.append(before)
                good.append({"image_id": row["image_id"], "path": row["path"]})
            except BadImage as problem:
                bad.append({"path": row["path"], "stage": "embed", "reason": problem.reason, "detail": problem.detail})
        stacked = np.stack(pixels) if pixels else np.zeros((0, self.size, self.size, 3), np.uint8)
        found = {"pixels": stacked, "sizes": np.array(sizes, np.int64).reshape(-1, 2), "good": good, "bad": bad}
        if whole is not None:
            shapes = np.array([image.shape[:2] for image in whole], np.int64).reshape(-1, 2)
            found |= {"shapes": shapes, "whole": joined(whole)}
        return found


class EmbedUnit:
    """Model work: embed one decoded unit; the pixels end here.

    Returns tables ``embeddings`` (image_id; embedding: unit length; thumbnail: 32 x 32 RGB; with ``posteriors``
    also mean and std of the VAE, flattened, and what the base model is told of an image besides its text, but for held-out
    units) and ``bad``. An embedding that is no unit
    vector is set aside. ``batch`` images go through a model at once, which bounds memory and changes nothing beyond
    rounding.

    Of a unit with ``shapes``, mean and std are of the whole images, so lists of several lengths, and ``height`` and ``width``
    are the images' own; all else is of their middle squares, as ever.
    """

    def __init__(self, models: ModelsConfig, posteriors: bool = True, batch: int = 32) -> None:
        from fairsynth.models.encoder import ClipEncoder

        self.encoder, self.pipeline, self.batch = ClipEncoder(models), None, batch
        if posteriors:
            from fairsynth.models.diffusion import load_autoencoder
            from fairsynth.models.memory import LIGHTER, Parts

            self.encoded = Parts(f"the latents of an image of {models.image_size} pixels", LIGHTER, batch)
            self.pipeline = load_autoencoder(models)

    def __call__(self, decoded: Mapping[str, Any]) -> dict[str, pa.Table]:
        good, bad, pixels, sizes = list(decoded["good"]), list(decoded["bad"]), decoded["pixels"], decoded["sizes"]
        columns: dict[str, Any] = {}
        if good:
            embedded = np.concatenate([self.encoder.images(part) for part in self._parts(pixels)])
            usable = unit_length(embedded)
            bad += [
                {"path": row["path"], "stage": "embed", "reason": "bad_embedding", "detail": "no unit vector"}
                for row, fine in zip(good, usable, strict=True)
                if not fine
            ]
            good, pixels = [row for row, fine in zip(good, usable, strict=True) if fine], pixels[usable]
            columns = self._vectors(embedded[usable], pixels) if good else {}
            if good and self.pipeline is not None and not is_held_out(str(decoded.get("name", ""))):
                columns |= self._posteriors(pixels, sizes[usable], _whole(decoded, usable))
        ids = pa.array([row["image_id"] for row in good], pa.string())
        return {
            "embeddings": pa.table({"image_id": ids, **columns}),
            "bad": pa.Table.from_pylist(bad, schema=SET_ASIDE),
        }

    def _parts(self, pixels_NHW3: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        return (pixels_NHW3[start : start + self.batch] for start in range(0, len(pixels_NHW3), self.batch))

    def _vectors(self, embedded_ND: NDArray[np.float32], pixels_NHW3: NDArray[np.uint8]) -> dict[str, Any]:
        small = [image.tobytes() for image in thumbnails(pixels_NHW3)]
        return {"embedding": vectors(embedded_ND), "thumbnail": pa.array(small, pa.binary(THUMBNAIL_BYTES))}

    def _posteriors(
        self,
        pixels_NHW3: NDArray[np.uint8],
        sizes_N2: NDArray[np.int64],
        whole_N: Sequence[NDArray[np.uint8]] | None,
    ) -> dict[str, Any]:
        """Columns of the autoencoder's posteriors of the squares, or of the whole images, which have shapes of their own."""
        if whole_N is None:
            mean, std, facts = self._encoded(pixels_NHW3, sizes_N2)
            columns = {"mean": vectors(mean.reshape(len(mean), -1)), "std": vectors(std.reshape(len(std), -1))}
            columns["latent_shape"] = pa.array([list(mean.shape[1:])] * len(mean), pa.list_(pa.int32()))
            return columns | {fact_column(name): vectors(values) for name, values in facts.items()}
        shapes = [Shape(*image.shape[:2]) for image in whole_N]
        rows: list[dict[str, Any]] = [{} for _ in shapes]
        for shape in dict.fromkeys(shapes):
            places = [place for place, other in enumerate(shapes) if other == shape]
            mean, std, facts = self._encoded(np.stack([whole_N[place] for place in places]), sizes_N2[places])
            for number, place in enumerate(places):
                rows[place] = {"mean": mean[number], "std": std[number]}
                rows[place] |= {fact_column(name): values[number] for name, values in facts.items()}
        columns = {name: ragged([row[name] for row in rows]) for name in ("mean", "std")}
        columns["latent_shape"] = pa.array([list(row["mean"].shape) for row in rows], pa.list_(pa.int32()))
        columns |= {name: pa.array([getattr(shape, name) for shape in shapes], pa.int32()) for name in Shape._fields}
        return columns | {
            name: vectors(np.stack([row[name] for row in rows])) for name in rows[0] if name not in columns
        }

    def _encoded(
        self, pixels_NHW3: NDArray[np.uint8], sizes_N2: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Mean and deviation of images of one shape, (N, C, h, w) each, and what the base model is told of them."""
        from fairsynth.models.diffusion import encode_posteriors
        from fairsynth.models.families.table import family_of

        pipeline, n = self.pipeline, len(pixels_NHW3)
        encoded = self.encoded(n, lambda part: encode_posteriors(pipeline, pixels_NHW3[part]))
        mean, std = (np.concatenate(arrays) for arrays in zip(*encoded, strict=True))
        return mean, std, family_of(pipeline).image_facts(sizes_N2, Shape(*pixels_NHW3.shape[1:3]))


def _whole(decoded: Mapping[str, Any], usable_N: NDArray[np.bool_]) -> list[NDArray[np.uint8]] | None:
    """The images of a decoded unit in their own shapes, but for those that are set aside; None where all are squares."""
    if "whole" not in decoded:
        return None
    images = parted(decoded["whole"], [Shape(*shape) for shape in decoded["shapes"].tolist()])
    return [image for image, fine in zip(images, usable_N, strict=True) if fine]


def unit_length(vectors_ND: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows are finite and of length 1, as FAISS needs them."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors_ND.astype(np.float64), axis=1)
    return np.isfinite(vectors_ND).all(1) & (np.abs(lengths - 1) < 1e-3)
