"""The card of a synthetic set (README.md), in the form that Hugging Face's hub reads."""

from __future__ import annotations

from typing import Literal

import yaml

from fairsynth.escaping import code, plain
from fairsynth.exports.set_facts import GroupFacts, SetFacts, licence, limits, privacy, purpose, sampling
from fairsynth.version import __version__

Layout = Literal["folder", "parquet", "webdataset"]
_FILES = {"folder": ["metadata.csv", "images/**"], "parquet": ["data/train-*.parquet"], "webdataset": ["*.tar"]}
# The hub's own names (its documentation, "Dataset Cards": size_categories).
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def dataset_card(facts: SetFacts, layout: Layout) -> str:
    """The card as Markdown behind its YAML header; labels and prompts are shown and never obeyed."""
    parts = {
        "What there is": _table(facts),
        "How it was made": _made(facts),
        "How to load it": _loading(layout) if facts.accepted else ["There is nothing to load: the set is empty."],
        "How to make an image again": _again(facts),
        "Licence": [f"License: other; {plain(licence(facts))}."],
        "Personal and sensitive information": [plain(privacy(facts))],
        "Known limits": [f"- {plain(line)}." for line in limits(facts)],
    }
    head = ["---", _front(facts, layout), "---", "", f"# {plain(facts.name)}", ""]
    head.append(
        f"{plain(purpose(facts))}. Every image is synthetic: its file says so (IPTC DigitalSourceType "
        "trainedAlgorithmicMedia), and the column is\\_synthetic."
    )
    body = (line for title, lines in parts.items() for line in ("", f"## {title}", "", *lines))
    return "\n".join([*head, *body, ""])


def _front(facts: SetFacts, layout: Layout) -> str:
    size = next((name for limit, name in _SIZES if facts.accepted < limit), "10M<n<100M")
    files = [{"split": "train", "path": _FILES[layout]}]
    header = {
        "pretty_name": facts.name,
        "license": "other",
        "license_name": "inherited-to-be-confirmed",
        "task_categories": ["image-classification"],
        "size_categories": [size],
        "annotations_creators": ["machine-generated"],
        "tags": ["synthetic", "fairness", "group-balanced", facts.tag, "fairsynth"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return yaml.safe_dump(header, allow_unicode=True, sort_keys=False).rstrip()


def _table(facts: SetFacts) -> list[str]:
    head = ["label", "attribute", "real, training", "synthetic", "wanted", "made by", "rejected", "remark"]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for group in facts.groups:
        cells = [group.label, group.attribute, group.real, group.accepted, group.quota, group.made_by, _rejected(group)]
        rows.append(f"| {' | '.join(map(plain, [*cells, group.remark]))} |")
    return [*rows, "", f"In all {facts.accepted} of {facts.accepted + facts.rejected} generated images are in the set."]


def _rejected(group: GroupFacts) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(group.rejected.items())) or "0"


def _made(facts: SetFacts) -> list[str]:
    lines = [
        f"By fairsynth {__version__}, set {code(facts.version)}"
        + (f", {plain(facts.created)}." if facts.created else "."),
        f"- base model: {code(facts.diffusion)}, version {code(facts.diffusion_revision)}, {plain(facts.dtype)}",
        *([f"- adapters: {plain(facts.finetune)}"] if facts.finetune else []),
        f"- sampling: {plain(sampling(facts))}; {_pixels(facts)}; the run's seed is {facts.seed}, each image has its own",
        f"- filter: {plain(facts.filter)}; CLIP: {code(facts.clip)}, version {code(facts.clip_revision)}",
        f"- files: {plain(facts.file_format)}, {_sides(facts)}, as most images of the source dataset are",
    ]
    prompts = [(group, prompt) for group in facts.groups for prompt in group.prompts]
    if prompts:
        lines += ["", "| label | attribute | prompt |", "|---|---|---|"]
        lines += [f"| {plain(group.label)} | {plain(group.attribute)} | {code(prompt)} |" for group, prompt in prompts]
    return [lines[0], "", *lines[1:]]


def _pixels(facts: SetFacts) -> str:
    about = f"about {facts.image_size} x {facts.image_size} px in the height and width of each row"
    return about if facts.shaped else f"{facts.image_size} px"


def _side(facts: SetFacts, name: str) -> str:
    """Height or width to make an image again, as Python."""
    return f'row["{name}"]' if facts.shaped else str(facts.image_size)


def _sides(facts: SetFacts) -> str:
    return f"the shorter side {facts.side} px" if facts.shaped else f"{facts.side} x {facts.side} px"


def _loading(layout: Layout) -> list[str]:
    return ["In this folder:", "", "```python", *_LOADING[layout], "```", *_NOTES[layout]]


def _again(facts: SetFacts) -> list[str]:
    # A Python string on one line (a JSON string is none beyond U+FFFF); backticks would end the block.
    base = ascii(facts.diffusion).replace("`", chr(92) + "x60")
    return [
        "A row holds all that its image depends on beside the models. With the row as `row`, and in `pipeline` the "
        f"{facts.pipeline} of `base` with a {plain(facts.scheduler)}, and the run's adapter of `row[\"adapter\"]`, if it "
        "names one:", "",
        "```python", "import torch", "",
        f"base = {base}",
        "generator = torch.Generator(\"cpu\").manual_seed(row[\"seed\"])",
        "image = pipeline(",
        "    prompt=row[\"prompt\"],",
        f"    {facts.negative_option},",
        f"    num_inference_steps={facts.steps},",
        f"    {facts.guidance_option},",
        *(f"    {side}={_side(facts, side)}," for side in ("height", "width")),
        *(f"    {option}," for option in facts.call_options),
        "    generator=generator,",
        ").images[0]",
        "```", "",
        "Where `adapter_scale` is not 1, the adapter counts with that strength, and so does `second_adapter` where there is "
        "one; where `adapter_from` is above 0, they come in after that share of the steps; where `guidance_until` is below 1, "
        "guidance ends after that share. Pixels are the same to 1/255 before the file is encoded; the column sha256 is of the file.",
    ]  # fmt: skip


# Ray's workers have a working folder of their own: it gets full paths.
_LOADING = {
    "folder": [
        "import os",
        "",
        "import datasets, pandas, ray",
        "",
        "here = os.getcwd()",
        'images = datasets.load_dataset("imagefolder", data_dir=here, split="train")',
        'rows = pandas.read_csv("metadata.csv", keep_default_na=False)',
        'table = ray.data.read_csv(f"{here}/metadata.csv")',
        'pixels = ray.data.read_images(f"{here}/images", include_paths=True)',
    ],
    "parquet": [
        "import os",
        "",
        "import datasets, pandas, ray",
        "",
        "here = os.getcwd()",
        'images = datasets.load_dataset("parquet", data_files=f"{here}/data/*.parquet", split="train")',
        'rows = pandas.read_parquet("data")',
        'table = ray.data.read_parquet(f"{here}/data")',
    ],
    "webdataset": [
        "import glob, os",
        "",
        "import datasets, ray, webdataset",
        "",
        'shards = sorted(glob.glob(f"{os.getcwd()}/*.tar"))',
        'images = datasets.load_dataset("webdataset", data_files=shards, split="train")',
        'rows = images.select_columns("json").to_pandas()',
        'samples = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")',
        "table = ray.data.read_webdataset(shards)",
    ],
}
_NOTES: dict[str, list[str]] = {
    "folder": [
        "",
        "In metadata.csv, text that a spreadsheet would take for a formula has an apostrophe before it: take the first one away.",
    ],
    "parquet": [],
    "webdataset": [],
}
