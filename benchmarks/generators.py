"""How well the images of each generator show their group, judged by classifiers that were trained on unbiased real images.

``python benchmarks/generators.py [--out DIR] [--per-group 150] [--json FILE]``. Each generator makes images of the demo's
four groups from the same 600 training images, of which 15 are left of each rare group. The judges, one of the label and
one of the attribute, are small ResNets trained on the demo without bias (every digit as often on either background, and
both splits but test); how often they are right on the test split is told. Images are judged before the CLIP filter, and
again after it. Nothing of the judges flows back into fairsynth.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import in_words, machine, markdown_row, markdown_table, newest, run_stage, write_json
from judging import Judged, Row, demo_judges, groups_of, pixels_of
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fairsynth.console import prepare_streams
from fairsynth.groups import Group

GENERATORS = {
    "vanilla": ["--finetune.generator", "vanilla"],
    "lora": ["--finetune.generator", "lora"],
    "dreambooth": ["--finetune.generator", "dreambooth"],
    "clustered-dreambooth": ["--finetune.generator", "clustered-dreambooth"],
    "dreambooth, class images": ["--finetune.generator", "dreambooth", "--finetune.prior", "images"],
    "dreambooth, full UNet": ["--finetune.generator", "dreambooth", "--finetune.parameters", "full"],
}
TILE = 40


def generate(name: str, out: Path, per_group: int) -> list[Row]:
    """All rows of the synthetic set of a generator, the rejected ones included."""
    # Each group by its own adapters, however few its images: it is the generators that are compared here.
    options = [*GENERATORS[name], "--synthesize.per_group", str(per_group), "--filter.max_rounds", "1"]
    options += ["--synthesize.routing", "own", "--cluster.min_group", "10", "--filter.min_probability", "0"]
    for stage in ("ingest", "embed", "cluster", "finetune", "synthesize"):
        run_stage(stage, "--out", str(out), *options)
    made = newest(out, "synthesize")
    verdicts = {row["image_id"]: row["verdict"] for row in pq.read_table(made / "synthetic.parquet").to_pylist()}
    rows = [row for path in sorted(made.glob("units/*/images.parquet")) for row in pq.read_table(path).to_pylist()]
    return [row | {"verdict": verdicts[row["image_id"]]} for row in rows if row["image_id"] in verdicts]


def share(right_N: NDArray[np.bool_]) -> str:
    """Share in percent with Wilson's 95 % interval."""
    n, p, z = len(right_N), right_N.mean(), 1.96
    middle, width = (
        (p + z * z / 2 / n) / (1 + z * z / n),
        z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / 4 / n / n),
    )
    return f"{p:.1%} ({middle - width:.1%} – {middle + width:.1%})"


def line(name: str, judged: Judged, groups: Sequence[Group]) -> str:
    """One row of the table."""
    names = np.array([str(group) for group in groups])
    each = [f"{judged.both[names == name].mean():.0%}" for name in sorted(set(names))]
    return markdown_row([name, len(names), *map(share, (*judged, judged.both)), *each])


def sheet(rows: dict[str, list[Row]], target: Path, per_group: int = 8) -> None:
    """The first images of each group, a line per generator: for looking."""
    groups = sorted({group for made in rows.values() for group in groups_of(made)})
    page = Image.new("RGB", (len(groups) * (per_group * TILE + 10), len(rows) * (TILE + 16)), "white")
    draw = ImageDraw.Draw(page)
    for y, (name, made) in enumerate(rows.items()):
        draw.text((0, y * (TILE + 16)), name, fill="black")
        for x, group in enumerate(groups):
            of_group = [row for row in made if (row["label"], row["attribute"]) == group][:per_group]
            for i, row in enumerate(of_group):
                tile = Image.open(io.BytesIO(row["file"])).resize((TILE - 2, TILE - 2), Image.Resampling.NEAREST)
                page.paste(tile, (x * (per_group * TILE + 10) + i * TILE, y * (TILE + 16) + 14))
    page.save(target)


def main() -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="keep the runs here; without it they are thrown away")
    parser.add_argument("--generators", nargs="+", choices=list(GENERATORS), default=list(GENERATORS))
    parser.add_argument("--per-group", type=int, default=150)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    judges = demo_judges()
    lines, rows, facts = [], {}, dict[str, Any]()
    with tempfile.TemporaryDirectory() as scratch:
        for name in chosen.generators:
            rows[name] = generate(name, chosen.out or Path(scratch), chosen.per_group)
            for when, part in (
                ("all", rows[name]),
                ("kept by the filter", [row for row in rows[name] if row["verdict"] == "accepted"]),
            ):
                judged = judges(pixels_of(part), groups_of(part))
                lines.append(line(f"{name}, {when}", judged, groups_of(part)))
                facts[f"{name}, {when}"] = judged.shares()
                print(lines[-1], flush=True)
    groups = sorted(set(map(str, groups_of(rows[chosen.generators[0]]))))
    head = ["generator", "images", "label right", "attribute right", "both right", *groups]
    print("\n" + markdown_table(head, lines))
    machine_facts = machine() | {"judges right on real test images": judges.right}
    print("\n" + in_words(machine_facts))
    write_json(chosen.json, {"machine": machine_facts, "shares": facts, "lines": lines})
    if chosen.picture:
        sheet(rows, chosen.picture)


if __name__ == "__main__":
    main()
