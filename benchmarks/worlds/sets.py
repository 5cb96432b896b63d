"""What the synthetic sets of worlds show, judged by classifiers that learnt from unbiased real images of the world.

``python -m benchmarks.worlds.sets [NAMES...] --worlds FOLDER --out RUNS [--severities 0.99 0.999] [--json FILE]``. The
worlds in FOLDER are those of ``python -m benchmarks.worlds``; for each and each severity the stages up to ``synthesize``
run. The judges learn from further draws of the world, every group as often, and are tried on its test split. Beside what
they see stands how well a linear model on CLIP embeddings tells accepted images from real ones (0.5 is ideal): from real
ones as they are, and as the base model's autoencoder gives them back; and how well it tells the label of an attribute's
images by how real they look. Nothing of this flows back into fairsynth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.common import in_words, machine, markdown_row, markdown_table, newest, run_stage, write_json
from benchmarks.judging import Judges, Pictures, groups_of, pixels_of
from benchmarks.worlds.worlds import WORLDS, World
from benchmarks.worlds.write import WorldImage, build
from fairsynth.config.load import load_config
from fairsynth.console import prepare_streams
from fairsynth.groups import Group
from fairsynth.manifest import TEST, TRAIN
from fairsynth.models.diffusion import encode_posteriors, load_pipeline
from fairsynth.models.encoder import ClipEncoder
from fairsynth.models.sampling import to_pixels
from fairsynth.stages.audit.realism import detectability, style_predicts_label

STAGES = ("ingest", "embed", "cluster", "finetune", "synthesize")
# Further draws of a world, of which the judges learn the splits that are balanced.
DRAWS = (1, 2, 3, 4)
HEAD = ["world", "bias", "group", "real", "way", "accepted", "right", "told from real", "from real, autoencoded"]


def judges_of(world: World) -> Judges:
    """Judges of a world's images."""
    known = [image for seed in DRAWS for image in build(world, seed) if image.split != TRAIN]
    return Judges(_pictures(known), _pictures([image for image in build(world) if image.split == TEST]), epochs=12)


def _pictures(images: Sequence[WorldImage]) -> Pictures:
    return Pictures(np.stack([image.pixels for image in images]), [Group(i.label, i.attribute) for i in images])


class Looks:
    """CLIP embeddings of real images of a world, as they are and as the autoencoder gives them back."""

    def __init__(self, world: World) -> None:
        import torch

        models = load_config(None, "demo", {}).models
        real = _pictures([image for image in build(world) if image.split != TRAIN])
        self.encoder, pipeline = ClipEncoder(models), load_pipeline(models)
        means, _ = encode_posteriors(pipeline, real.pixels)
        self.groups, self.plain_ND = real.groups, self.encoder.images(real.pixels)
        self.again_ND = self.encoder.images(to_pixels(pipeline, torch.from_numpy(means)))

    def told(self, group: Group, made_ND: NDArray[np.float32]) -> dict[str, float | None]:
        """AUC of telling a group's synthetic images from its real ones; None with fewer than 10."""
        places = [i for i, own in enumerate(self.groups) if own == group]
        found = {}
        for name, real_ND in (("real", self.plain_ND[places]), ("autoencoded", self.again_ND[places])):
            auc = detectability(real_ND, made_ND, 0)
            found[name] = None if auc is None else auc.auc
        return found

    def labels_told(self, made_ND: NDArray[np.float32], groups: Sequence[Group]) -> dict[str, float]:
        """By attribute: AUC of telling a label by how real its synthetic images look."""
        found = style_predicts_label(self.again_ND, made_ND, self.groups, groups, 0)
        return {audit.attribute: audit.synthetic.auc for audit in found}


def run(world: World, folder: Path, out: Path, severity: float, options: Sequence[str]) -> Path:
    """Run the stages; the artifact of synthesize."""
    data = "--data.format", "folder", "--data.root", str(folder / world.name), "--data.severity", str(severity)
    for stage in STAGES:
        run_stage(stage, "--out", str(out), *data, *world.arguments, *options)
    return newest(out, "synthesize")


def figures(made: Path, judges: Judges, looks: Looks) -> dict[str, Any]:
    """What the accepted images of each group show, and how real they look."""
    table = pq.read_table(made / "synthetic.parquet", filters=[("verdict", "=", "accepted")])
    rows = table.to_pylist()
    files: dict[str, bytes] = {}
    for unit in sorted({row["unit"] for row in rows}):
        images = pq.read_table(made / "units" / unit / "images.parquet", columns=["image_id", "file"])
        files |= dict(zip(images["image_id"].to_pylist(), images["file"].to_pylist(), strict=True))
    pixels = pixels_of([row | {"file": files[row["image_id"]]} for row in rows]) if rows else np.zeros((0, 1, 1, 3))
    groups, right = groups_of(rows), judges(pixels, groups_of(rows)).both if rows else np.zeros(0, bool)
    embeddings = looks.encoder.images(pixels) if rows else np.zeros((0, 1), np.float32)
    found = []
    for facts in json.loads((made / "artifact.json").read_text("utf-8"))["groups"]:
        group = Group(facts["label"], facts["attribute"])
        places = [i for i, own in enumerate(groups) if own == group]
        entry = {key: facts[key] for key in ("real", "way", "quota", "accepted", "made", "not_made", "why")}
        if places:
            entry |= {"right": float(right[places].mean()), "told": looks.told(group, embeddings[places])}
        found.append({"group": str(group)} | entry)
    return {"groups": found, "labels_told": looks.labels_told(embeddings, groups) if rows else {}}


def lines(world: str, severity: float, result: dict[str, Any]) -> list[str]:
    """The rows of the table of one world at one severity."""
    found = []
    for entry in result["groups"]:
        cells = [world, f"{severity:.1%}", entry["group"], entry["real"], entry["way"]]
        told = [entry.get("told", {}).get(name) for name in ("real", "autoencoded")]
        share = f"{entry['right']:.0%}" if "right" in entry else entry["not_made"] or "none"
        cells += [f"{entry['accepted']} of {entry['quota']}", share, *("" if t is None else f"{t:.2f}" for t in told)]
        found.append(markdown_row(cells))
    return found


def main() -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worlds.sets", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAMES", help=f"of {', '.join(WORLDS)}")
    parser.add_argument("--worlds", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--severities", type=float, nargs="+", default=[0.99, 0.999])
    parser.add_argument("--json", type=Path)
    chosen, options = parser.parse_known_args()
    results, table, right = [], list[str](), {}
    for name in chosen.names or list(WORLDS):
        world = WORLDS[name]
        judges, looks = judges_of(world), Looks(world)
        right[name] = judges.right
        for severity in chosen.severities:
            made = run(world, chosen.worlds, chosen.out / f"{name}-{severity}", severity, options)
            result = {"world": name, "severity": severity} | figures(made, judges, looks)
            results.append(result)
            table += lines(name, severity, result)
            print(json.dumps(result), flush=True)
    told = [e["told"] for r in results for e in r["groups"] if "told" in e]
    medians = {
        name: median(values) if (values := [t[name] for t in told if t[name] is not None]) else None
        for name in ("real", "autoencoded")
    }
    facts = machine() | {"judges right on real test images": right}
    print("\n" + markdown_table(HEAD, table) + "\n" + in_words(facts) + f"\nmedians: {medians}")
    write_json(chosen.json, {"machine": facts, "results": results, "median told": medians})


if __name__ == "__main__":
    main()
