"""The whole pipeline, with the demo's models, on datasets of other shapes than the demo's."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image
from sklearn.metrics import adjusted_mutual_info_score

from tests.conftest import SMALL, fairsynth
from tests.support.comparing import stage_folder

LABELS = ("низкий", "mittel «½»", 'high, "01"')
ATTRIBUTES = ("NA", "blå/himmel", "日本 <b>x</b>")
# Images per group: training is biased and lacks one group, the rest is balanced.
TRAIN = ((26, 3, 12), (3, 26, 3), (0, 12, 26))
PROMPTS = {"finetune.prompt": "a photo of a {token} {label} number", "synthesize.prompt": "a photo of a {label} number"}


def picture(label: int, attribute: int, rng: np.random.Generator) -> Image.Image:
    """A digit (0-2, 3-5 or 6-8 by label) on a crop of a photograph or on a plain colour, by attribute."""
    digits = load_digits()
    chosen = rng.choice(np.flatnonzero(digits.target // 3 == label))
    ink = np.asarray(Image.fromarray((digits.images[chosen] * 15).astype(np.uint8)).resize((32, 32)), float) / 255
    if attribute < 2:
        photo = load_sample_image(("china.jpg", "flower.jpg")[attribute])
        y, x = rng.integers(130, photo.shape[0] - 64), rng.integers(0, photo.shape[1] - 64)
        ground = np.asarray(Image.fromarray(photo[y : y + 64, x : x + 64]).resize((32, 32)), float) * 0.7
    else:
        ground = np.full((32, 32, 3), rng.integers(20, 120, 3), float)
    return Image.fromarray((ground * (1 - ink[..., None]) + 250 * ink[..., None]).astype(np.uint8))


def members() -> list[tuple[str, int, int, int]]:
    """(split, label, attribute, number) of every image."""
    sizes = {"train": TRAIN, "val": ((6, 6, 6),) * 3, "test": ((8, 8, 8),) * 3}
    found = [(s, y, a) for s, table in sizes.items() for y in range(3) for a in range(3) for _ in range(table[y][a])]
    return [(*member, number) for number, member in enumerate(found)]


def write_images(root: Path, name: Any) -> list[tuple[str, str, int, int]]:
    """Draw every image at the path that ``name`` gives it; returns (path, split, label, attribute)."""
    rows = []
    for split, y, a, number in members():
        path = str(name(split, y, a, number))
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        picture(y, a, np.random.default_rng(number)).save(root / path)
        rows.append((path, split, y, a))
    return rows


def tree(root: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of every file."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


def arguments(root: Path, out: Path, **changed: object) -> list[str]:
    """A small run of the demo's models on a dataset."""
    settings = SMALL | {"data.format": "auto", "data.root": str(root)}
    settings |= {key.replace("__", "."): value for key, value in changed.items()}
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    return ["run", "--preset", "demo", "--out", str(out), *words]


def test_three_labels_and_three_attributes_with_unicode_names(tmp_path: Path) -> None:
    root, out = tmp_path / "données 🙂", tmp_path / "out"
    rows = write_images(root, lambda split, y, a, n: f"{split}/{LABELS[y][:3]} é{n:03d}.png")
    with open(root / "metadata.csv", "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["file_name", "split", "label", "attribute"])
        table.writerows((path, split, LABELS[y], ATTRIBUTES[a]) for path, split, y, a in rows)
    before = tree(root)
    changed = {"cluster__k": 1, "cluster__min_group": 10, "synthesize__routing": "same-attribute", "evaluate__seeds": 1}
    # Adapters of six steps draw what they draw: no quota shall hang on it.
    changed |= {"filter__min_probability": 0, "filter__near_duplicates": False}
    # The demo's models read 32 tokens.
    words = ["--finetune.prompt", "a {token} {label} on {attribute}", "--synthesize.prompt", "a {label} on {attribute}"]
    result = fairsynth(*arguments(root, out, **changed), *words)
    assert result.returncode == 0, result.stderr[-2000:]
    assert tree(root) == before
    report = json.loads((out / "report.json").read_text())
    groups = {(g["label"], g["attribute"]): g for g in report["groups"]}
    for y, label in enumerate(LABELS):
        for a, attribute in enumerate(ATTRIBUTES):
            facts, real = groups[label, attribute], TRAIN[y][a]
            assert facts["real"] == real
            lent = max(TRAIN[other][a] for other in range(3)) >= 10
            assert facts["generator"] == (
                "own" if real >= 10 else "none" if not real else "borrowed" if lent else "prompt"
            )
            assert facts["accepted"] == (SMALL["synthesize.per_group"] if real else 0)
    for method in report["methods"]:
        assert [g["n"] for g in method["groups"]] == [8] * 9
    absent = [r for r in report["data"]["remarks"] if "no training images" in r]
    assert len(absent) == 1 and ATTRIBUTES[0] in absent[0]
    with open(out / "synthetic" / "metadata.csv", encoding="utf-8", newline="") as handle:
        kept = {(row["label"], row["attribute"]) for row in csv.DictReader(handle)}
    assert kept == {pair for pair, facts in groups.items() if facts["real"]}
    page = (out / "report.html").read_text("utf-8")
    assert "<b>x</b>" not in page and "日本 &lt;b&gt;x&lt;/b&gt;" in page


def test_a_dataset_without_attributes(tmp_path: Path) -> None:
    """Pseudo-attributes stand in for the attribute; the true one, given for evaluation, changes the report alone."""
    root, out = tmp_path / "data", tmp_path / "out"
    rows = write_images(root, lambda split, y, a, n: f"{n:03d}.png")
    with open(root / "metadata.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([("file_name", "split", "label", "ground"), *rows])
    words = [word for key, value in PROMPTS.items() for word in (f"--{key}", value)]
    changed = {"data__attribute": "discover", "data__attribute_column": "ground", "data__discovered": 3}
    shared = {"evaluate__seeds": 1, "tune__methods": "[erm, fairsynth]", "finetune__generator": "vanilla"}
    result = fairsynth(*arguments(root, out, **changed, **shared), *words)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "worst-group accuracy is over these groups" in result.stdout
    assert "were discovered" in (out / "report.html").read_text("utf-8")
    report = json.loads((out / "report.json").read_text())
    assert not [check for check in report["checks"] if check["passed"] is False and check["key"] != "copy_detector"]
    assert {g["attribute"] for g in report["methods"][0]["groups"]} == {"kind-1", "kind-2", "kind-3"}
    predictions = [r for r in pq.read_table(out / "predictions.parquet").to_pylist() if r["method"] == "erm"]
    assert len(predictions) == 72
    for entry in report["discovered"]["agreement"]["test"]:
        part = [r for r in predictions if r["label"] == entry["label"]]
        pseudo, truth = [r["attribute"] for r in part], [r["true_attribute"] for r in part]
        assert entry["adjusted_mutual_information"] == pytest.approx(adjusted_mutual_info_score(truth, pseudo))
    true_groups = report["discovered"]["true_groups"][0]
    assert [g["n"] for g in true_groups["groups"]] == [8] * 9
    wrong = Counter((r["label"], r["true_attribute"]) for r in predictions if r["predicted"] != r["label"])
    assert true_groups["worst_group_accuracy"]["mean"] == pytest.approx(1 - max(wrong.values()) / 8)
    # The truth was used for evaluation alone: the manifest that the method sees has none.
    manifest = pq.read_table(stage_folder(out, "ingest") / "manifest.parquet")
    assert set(manifest.column("attribute").to_pylist()) == {""}


def test_pseudo_attributes_do_not_depend_on_the_truth(tmp_path: Path) -> None:
    """A tree of folders by label alone gives pseudo-attributes for every training and validation image."""
    root, out = tmp_path / "data", tmp_path / "out"
    rows = write_images(root, lambda split, y, a, n: f"{split}/number {y}/{n:03d}.png")
    for stage in ("ingest", "embed", "cluster"):
        words = arguments(root, out, data__attribute="discover", data__discovered=2)
        result = fairsynth(stage, *words[1:])
        assert result.returncode == 0, result.stderr[-2000:]
    found = pq.read_table(stage_folder(out, "cluster") / "discovered.parquet").to_pylist()
    assert len(found) == sum(split != "test" for _, split, _, _ in rows)
    assert {row["attribute"] for row in found} == {"kind-1", "kind-2"}
    assert not (stage_folder(out, "cluster") / "agreement.json").exists()
