"""Ingest and embed beside a plain loop of PIL and torch in one process: seconds per image, and peak memory.

``python benchmarks/ingest_embed.py [--images 2000 20000] [--rounds 3] [--json FILE]``; run it while nothing else runs.
Both sides read the same files and give the same CLIP vectors and VAE posteriors with the demo's models. The loop
decodes each file once, without checks, with all cores for torch; fairsynth also checks every file, hashes
it, and commits its results. Start-up (Ray, loading models) is left out on both sides.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import apart, peak_memory, stage_record, write_images, write_json
from PIL import Image

BATCH = 128


def plain_loop(root: Path) -> float:
    """Seconds of the loop that one would write without fairsynth."""
    from fairsynth.config.load import load_config
    from fairsynth.models.diffusion import encode_posteriors, load_pipeline
    from fairsynth.models.encoder import ClipEncoder

    models = load_config(preset="demo").models
    encoder, pipeline = ClipEncoder(models), load_pipeline(models)
    with open(root / "metadata.csv", encoding="utf-8", newline="") as handle:
        files = [row["file_name"] for row in csv.DictReader(handle) if row["split"] == "train"]
    encode_posteriors(pipeline, np.zeros((2, 32, 32, 3), np.uint8))
    began, vectors, latents = time.monotonic(), [], []
    for start in range(0, len(files), BATCH):
        images = [
            Image.open(root / name).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
            for name in files[start : start + BATCH]
        ]
        pixels = np.stack([np.asarray(image) for image in images])
        vectors.append(encoder.images(pixels))
        latents.append(encode_posteriors(pipeline, pixels))
    buffer = io.BytesIO()
    np.savez(buffer, vectors=np.concatenate(vectors), mean=np.concatenate([m for m, _ in latents]))
    return time.monotonic() - began


def fairsynth_stages(root: Path, out: Path) -> dict[str, float]:
    """Seconds of ingest and embed without start-up, from their artifacts."""
    from fairsynth.config.load import load_config
    from fairsynth.pipeline import run

    config = load_config(preset="demo", overrides={"data.format": "folder", "data.root": str(root), "out": str(out)})
    seconds = {}
    for stage in ("ingest", "embed"):
        run(config, only=stage, say=lambda _: None)
        record = stage_record(out, stage)
        seconds[stage] = record["seconds"] - record["startup_seconds"]
    return seconds


def measure(side: str, root: Path) -> dict[str, float]:
    """One measurement in this process."""
    found: dict[str, float] = {}
    with peak_memory(found):
        if side == "plain":
            found["seconds"] = plain_loop(root)
        else:
            with tempfile.TemporaryDirectory() as out:
                found |= fairsynth_stages(root, Path(out) / "out")
            found["seconds"] = found["ingest"] + found["embed"]
    return found


def in_process(side: str, root: Path) -> dict[str, float]:
    """The same in a process of its own."""
    return apart(__file__, "--side", side, "--root", str(root), HF_HUB_OFFLINE="1")  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=["plain", "fairsynth"])
    parser.add_argument("--root", type=Path)
    chosen = parser.parse_args()
    if chosen.side:
        print(json.dumps(measure(chosen.side, chosen.root)))
        return
    table: list[dict[str, Any]] = []
    for n in chosen.images:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), n)
            for index in range(chosen.rounds):
                # The sides take turns in going first.
                for side in ("plain", "fairsynth") if index % 2 == 0 else ("fairsynth", "plain"):
                    row = {"images": n, "round": index, "side": side, **in_process(side, Path(folder))}
                    row["ms_per_image"] = round(1000 * row["seconds"] / n, 3)
                    table.append(row)
                    print(row, flush=True)
        median = {
            s: float(np.median([r["seconds"] for r in table if r["side"] == s and r["images"] == n]))
            for s in ("plain", "fairsynth")
        }
        print(f"{n} images: fairsynth / plain = {median['fairsynth'] / median['plain']:.2f}", flush=True)
    write_json(chosen.json, table)


if __name__ == "__main__":
    main()
