"""Stage 5, synthesize: plan how many images each group owes, generate them, keep the best of each group."""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from fairsynth.config import FilterConfig, ModelsConfig, SynthesizeConfig
from fairsynth.groups import Group
from fairsynth.manifest import image_id, seed_for

VERSION = 1
# Below this spread of every channel's values an image shows nothing (a safety checker's black frame, a collapsed adapter).
MIN_SPREAD = 3.0


@dataclass(frozen=True)
class Source:
    """One way to make images of a group: an adapter with its prompt, or the base model (adapter None)."""

    adapter: str | None
    cluster: int
    prompt: str
    weight: int


def quotas(counts: Mapping[Group, int], per_group: int | str) -> dict[Group, int]:
    """Accepted images that each group owes, so that all groups are equal: a number, or the largest group's size."""
    target = max(counts.values()) if per_group == "largest" else int(per_group)
    return {group: target for group in sorted(counts)}


def candidates_needed(missing: int, keep: float) -> int:
    """Images to generate so that the best share ``keep`` of them covers what is missing."""
    return math.ceil(missing / keep - 1e-9)


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` split in proportion to the weights, by largest remainder; the parts add up exactly."""
    if total == 0:
        return [0] * len(weights)
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [math.floor(value) for value in exact]
    for i in sorted(range(len(weights)), key=lambda i: (parts[i] - exact[i], i))[: total - sum(parts)]:
        parts[i] += 1
    return parts


def plan_rows(
    needed: Mapping[Group, int],
    sources: Mapping[Group, Sequence[Source]],
    config: SynthesizeConfig,
    seed: int,
    round_index: int,
) -> list[dict[str, Any]]:
    """One row per image to generate, sorted by adapter and cut into units of one adapter each.

    A row's seed depends on (seed, group, source, round, index): not on any other group's plan.
    """
    rows = []
    for group, total in sorted(needed.items()):
        for source, count in zip(sources[group], shares(total, [s.weight for s in sources[group]]), strict=True):
            name = source.adapter or f"base-{group.slug}"
            for index in range(count):
                key = f"r{round_index}/{name}/{index:06d}"
                rows.append(
                    {
                        "image_id": image_id(f"synthetic/{key}"),
                        "label": group.label,
                        "attribute": group.attribute,
                        "adapter": source.adapter,
                        "cluster": source.cluster,
                        "prompt": source.prompt,
                        "negative_prompt": config.negative_prompt,
                        "seed": seed_for(seed, "image", *group, key),
                        "round": round_index,
                        "unit": f"r{round_index}-{name}-{index // config.unit_size:05d}",
                    }
                )
    return sorted(rows, key=lambda row: (row["adapter"] or "", row["unit"], row["image_id"]))


class GenerateUnit:
    """Generates, scores and encodes the images of one unit; keeps the base model and switches adapters.

    ``__call__`` takes a unit's name and returns the table ``images``: the plan's columns, the
    encoded file, its SHA-256, CLIP scores, and a reason if the image is unusable.
    """

    def __init__(
        self,
        models: ModelsConfig,
        config: SynthesizeConfig,
        filter_config: FilterConfig,
        plan: Path,
        adapters: Path,
        texts: Mapping[Group, str],
        centroids: Mapping[Group, NDArray[np.float32]],
        suffix: str,
    ) -> None:
        from fairsynth.models.adapters import MergedAdapters
        from fairsynth.models.diffusion import load_pipeline
        from fairsynth.models.encoder import ClipEncoder

        self.models, self.config, self.filter, self.suffix = models, config, filter_config, suffix
        self.plan, self.adapters, self.centroids = pq.read_table(plan), adapters, centroids
        self.pipeline, self.encoder = load_pipeline(models), ClipEncoder(models)
        self.merged = MergedAdapters(self.pipeline.unet)
        self.texts = dict(zip(texts, self.encoder.texts(list(texts.values())), strict=True))

    def __call__(self, task: Mapping[str, Any]) -> dict[str, pa.Table]:
        from fairsynth.models.adapters import weights_file
        from fairsynth.models.diffusion import generate

        rows = self.plan.filter(pc.equal(self.plan["unit"], task["name"])).to_pylist()
        adapter = rows[0]["adapter"]
        self.merged.switch(weights_file(self.adapters / adapter) if adapter else None)
        pixels = generate(
            self.pipeline,
            [r["prompt"] for r in rows],
            [r["negative_prompt"] for r in rows],
            [r["seed"] for r in rows],
            self.models.image_size,
            self.config.steps,
            self.config.guidance,
        )
        text, centroid = self._scores(Group(rows[0]["label"], rows[0]["attribute"]), pixels)
        for i, row in enumerate(rows):
            content = encode_file(pixels[i], self.suffix)
            row |= {
                "file": content,
                "sha256": hashlib.sha256(content).hexdigest(),
                "text_score": text[i],
                "centroid_score": centroid[i],
                "score": self.filter.text_weight * text[i] + (1 - self.filter.text_weight) * centroid[i],
                "reason": "constant" if shows_nothing(pixels[i]) else "",
            }
        return {"images": pa.Table.from_pylist(rows, schema=image_schema(self.plan.schema))}

    def _scores(self, group: Group, pixels_NHW3: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
        """Cosine similarity to the group's prompt and to its real centroid (the prompt's alone if there is none)."""
        vectors = self.encoder.images(pixels_NHW3)
        text = (vectors @ self.texts[group]).tolist()
        return text, (vectors @ self.centroids[group]).tolist() if group in self.centroids else text


def plan_schema() -> pa.Schema:
    """Columns of the plan."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("label", pa.string()),
            ("attribute", pa.string()),
            ("adapter", pa.string()),
            ("cluster", pa.int64()),
            ("prompt", pa.string()),
            ("negative_prompt", pa.string()),
            ("seed", pa.int64()),
            ("round", pa.int64()),
            ("unit", pa.string()),
        ]
    )


def image_schema(plan: pa.Schema) -> pa.Schema:
    """Columns of a generated unit: the plan's, then file and scores."""
    return pa.schema(
        [
            *plan,
            ("file", pa.binary()),
            ("sha256", pa.string()),
            ("text_score", pa.float64()),
            ("centroid_score", pa.float64()),
            ("score", pa.float64()),
            ("reason", pa.string()),
        ]
    )


def shows_nothing(pixels_HW3: NDArray[np.uint8]) -> bool:
    """True for an image of about one colour, whichever it is."""
    return bool(pixels_HW3.std((0, 1)).max() < MIN_SPREAD)


def encode_file(pixels_HW3: NDArray[np.uint8], suffix: str) -> bytes:
    """Encode in the dataset's own format: a difference in codec would be a new shortcut.

    The file says in its metadata that it is synthetic (IPTC DigitalSourceType).
    """
    buffer = io.BytesIO()
    image = Image.fromarray(pixels_HW3)
    if suffix in (".jpg", ".jpeg"):
        image.save(buffer, "JPEG", quality=92, xmp=_SYNTHETIC_XMP.encode())
    else:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", _SYNTHETIC_XMP)
        image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


_SYNTHETIC_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType='
    '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>'
)


def centroids(groups_N: Sequence[Group], embeddings_ND: NDArray[np.float32]) -> dict[Group, NDArray[np.float32]]:
    """Mean CLIP vector of each real group, scaled to length 1 (arXiv 2511.08711, CLIP-Centroid)."""
    members: dict[Group, list[int]] = defaultdict(list)
    for index, group in enumerate(groups_N):
        members[group].append(index)
    means = {group: embeddings_ND[index].mean(0) for group, index in members.items()}
    return {group: (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32) for group, mean in means.items()}


def select(images: Sequence[Mapping[str, Any]], quota: Mapping[Group, int], keep: float) -> dict[str, str]:
    """Verdict of each image by image_id: ``accepted``, or the reason of its rejection.

    Per group the best share ``keep`` of all generated images by score, at most the quota: best scores
    first, ties by image_id. Images with a reason of their own are never accepted.
    """
    verdicts = {row["image_id"]: row["reason"] or "low_score" for row in images}
    for group, wanted in quota.items():
        members = [row for row in images if (row["label"], row["attribute"]) == group]
        usable = sorted((row for row in members if not row["reason"]), key=lambda row: (-row["score"], row["image_id"]))
        limit = min(wanted, math.floor(keep * len(members) + 1e-9))
        verdicts |= {row["image_id"]: "accepted" for row in usable[:limit]}
    return verdicts


def missing(
    images: Sequence[Mapping[str, Any]], verdicts: Mapping[str, str], quota: Mapping[Group, int]
) -> dict[Group, int]:
    """Accepted images that each group still lacks; groups that lack none are left out."""
    have = Counter(Group(row["label"], row["attribute"]) for row in images if verdicts[row["image_id"]] == "accepted")
    return {group: wanted - have[group] for group, wanted in quota.items() if have[group] < wanted}
