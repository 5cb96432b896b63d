"""What the synthetic sets of the demo show as the bias grows, judged by classifiers that learnt from unbiased real images.

``python benchmarks/synthetic_sets.py [--severities 0.95 0.99 0.999] [--out DIR] [--json FILE]``. For each severity the
stages up to ``audit`` run as they do in ``make demo``. Judges, small ResNets of label and attribute (``judging.py``), look
at all images that were made and at the accepted ones; beside them stand plain prompts of the base model at the same
guidance, 300 images of each group. Nothing of the judges flows back into fairsynth.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import in_words, machine, markdown_row, markdown_table, newest, run_stage, write_json
from judging import Judges, Row, demo_judges, groups_of, pixels_of

from fairsynth.config.load import load_config
from fairsynth.console import prepare_streams
from fairsynth.groups import Group

STAGES = ("ingest", "embed", "cluster", "finetune", "synthesize", "audit")
PLAIN = 300


def run(out: Path, severity: float, options: Sequence[str]) -> tuple[dict[str, Any], list[Row]]:
    """The record of the synthesize stage, and all rows of its table with their files."""
    for stage in STAGES:
        run_stage(stage, "--out", str(out), "--data.severity", str(severity), *options)
    made = newest(out, "synthesize")
    rows = pq.read_table(made / "synthetic.parquet").to_pylist()
    files: dict[str, bytes] = {}
    for unit in {row["unit"] for row in rows}:
        table = pq.read_table(made / "units" / unit / "images.parquet", columns=["image_id", "file"])
        files |= dict(zip(table["image_id"].to_pylist(), table["file"].to_pylist(), strict=True))
    record = json.loads((made / "artifact.json").read_text("utf-8"))
    return record, [row | {"file": files[row["image_id"]]} for row in rows]


def shown(judges: Judges, rows: Sequence[Row]) -> dict[str, float]:
    """Shares of images whose label, attribute and both are as they should be."""
    return judges(pixels_of(rows), groups_of(rows)).shares()


def by_prompt(judges: Judges, groups: Sequence[Group]) -> dict[Group, dict[str, float]]:
    """The same of the base model's images."""
    from fairsynth.models.diffusion import encode_prompts, load_pipeline
    from fairsynth.models.sampling import Wanted, denoise, to_pixels
    from fairsynth.models.schedule import Sampling
    from fairsynth.prompts import fill

    config, found = load_config(None, "demo", {}), {}
    pipeline, how = load_pipeline(config.models), config.synthesize
    for group in groups:
        told = [encode_prompts(pipeline, [text] * PLAIN) for text in (fill(how.prompt, config.data, group), "")]
        wanted = Wanted(told[0], told[1], [how.guidance] * PLAIN, range(PLAIN))
        pixels = to_pixels(pipeline, denoise(pipeline, wanted, 32, Sampling(how.steps, how.scheduler)))
        found[group] = judges(pixels, [group] * PLAIN).shares()
    return found


def figures(judges: Judges, severity: float, record: dict[str, Any], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row of the table for each group."""
    found = []
    for facts in record["groups"]:
        group = Group(facts["label"], facts["attribute"])
        made = [row for row in rows if (row["label"], row["attribute"]) == group]
        kept = [row for row in made if row["verdict"] == "accepted"]
        entry = {"severity": severity, "group": str(group), "real": facts["real"], "way": facts["way"]}
        entry |= {"accepted": len(kept), "quota": facts["quota"], "made": len(made), "rejected": facts["rejected"]}
        found.append(entry | {"all": shown(judges, made), "kept": shown(judges, kept)})
    return found


def line(entry: dict[str, Any], prompt: dict[str, float]) -> str:
    """One row of the table."""
    cells = [
        f"{entry['severity']:.1%}",
        entry["group"],
        entry["real"],
        entry["way"],
        f"{entry['accepted']} of {entry['quota']}",
    ]
    cells += [
        entry["made"],
        *(
            f"{part['label']:.0%}, {part['attribute']:.0%}, {part['both']:.1%}"
            for part in (entry["all"], entry["kept"], prompt)
        ),
    ]
    return markdown_row(cells)


def main() -> None:
    prepare_streams()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--severities", type=float, nargs="+", default=[0.95, 0.99, 0.999])
    parser.add_argument("--out", type=Path, help="keep the runs here; without it they are thrown away")
    parser.add_argument("--json", type=Path)
    chosen, options = parser.parse_known_args()
    judges, entries = demo_judges(), []
    with tempfile.TemporaryDirectory() as scratch:
        for severity in chosen.severities:
            record, rows = run((chosen.out or Path(scratch)) / str(severity), severity, options)
            entries += figures(judges, severity, record, rows)
            print(json.dumps(entries[-1]), flush=True)
    groups = sorted({Group(facts["label"], facts["attribute"]) for facts in record["groups"]})
    prompts = {str(group): shares for group, shares in by_prompt(judges, groups).items()}
    head = [
        "bias",
        "group",
        "real",
        "way",
        "accepted",
        "made",
        "made: label, attribute, both",
        "accepted",
        "plain prompt",
    ]
    print("\n" + markdown_table(head, (line(entry, prompts[entry["group"]]) for entry in entries)))
    facts = machine() | {"judges right on real test images": judges.right}
    print("\n" + in_words(facts))
    write_json(chosen.json, {"machine": facts, "groups": entries, "prompts": prompts})


if __name__ == "__main__":
    main()
