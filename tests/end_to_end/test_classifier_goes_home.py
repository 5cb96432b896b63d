"""All ways to a run's classifier agree over all of its test images: the run, its report, predict, transformers, ONNX."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.support.calling import call, export

# Rounding: of other orders of adding up, and of float32 in tables.
SAME, ROUNDED = 1e-6, 1e-5


@pytest.fixture(scope="module")
def tests(finished_run: Path) -> list[dict[str, Any]]:
    """What fairsynth's first training said of the test images, with their files."""
    (manifest,) = finished_run.glob("stages/ingest-*/manifest.parquet")
    path_of = {row["image_id"]: row["path"] for row in pq.read_table(manifest).to_pylist()}
    rows = [
        row | {"path": path_of[row["image_id"]], "file": dataset(finished_run) / path_of[row["image_id"]]}
        for row in pq.read_table(finished_run / "predictions.parquet").to_pylist()
        if (row["method"], row["seed"]) == ("fairsynth", 0)
    ]
    assert rows
    return rows


def dataset(run: Path) -> Path:
    (root,) = (run / "dataset").iterdir()
    return root


def labels(run: Path) -> list[str]:
    names = json.loads((run / "classifier" / "config.json").read_text("utf-8"))["id2label"]
    return [names[str(place)] for place in range(len(names))]


def agree(run: Path, tests: list[dict[str, Any]], found_NK: np.ndarray, tolerance: float) -> None:
    """The same label of every image, and probabilities within the tolerance."""
    assert [labels(run)[place] for place in found_NK.argmax(1)] == [row["predicted"] for row in tests]
    assert np.abs(found_NK - np.array([row["probabilities"] for row in tests])).max() <= tolerance


def test_the_classifier_goes_home(finished_run: Path, tests: list[dict[str, Any]], tmp_path: Path) -> None:
    assert {path.name for path in (finished_run / "classifier").iterdir()} == {
        ".contents", "README.md", "config.json", "model.safetensors", "preprocessor_config.json"
    }  # fmt: skip
    root = dataset(finished_run)
    code, out, _ = call("predict", root, "--run", finished_run, "--to", tmp_path / "new.parquet", "--truth", root)
    assert code == 0 and "cannot be read" not in out
    seen = {row["path"]: row for row in pq.read_table(tmp_path / "new.parquet").to_pylist()}
    columns = [f"p: {label}" for label in labels(finished_run)]
    agree(finished_run, tests, np.array([[seen[row["path"]][name] for name in columns] for row in tests]), SAME)
    assert all(seen[row["path"]]["label"] == row["predicted"] for row in tests)

    # The report's figures of this training, each from its definition on the table that predict wrote.
    report = json.loads((finished_run / "report.json").read_text("utf-8"))
    (ours,) = (method for method in report["methods"] if method["name"] == "fairsynth")
    figures = json.loads((tmp_path / "new.groups.json").read_text("utf-8"))
    assert figures["images"] == figures["used"] and figures["excluded"] == {}
    part = figures["parts"][0]
    assert (part["split"], part["n"]) == ("test", len(tests))
    for name in ("accuracy", "accuracy_group_mean", "worst_group_accuracy", "equalized_odds_difference"):
        assert part[name] == pytest.approx(ours[name]["per_seed"][0], abs=1e-12), name
    assert [(g["label"], g["attribute"], g["n"]) for g in part["groups"]] == [
        (g["label"], g["attribute"], g["n"]) for g in ours["groups"]
    ]


def test_every_number_of_the_card_is_one_of_the_report(finished_run: Path) -> None:
    card = (finished_run / "classifier" / "README.md").read_text("utf-8")
    report = json.loads((finished_run / "report.json").read_text("utf-8"))
    (ours,) = (method for method in report["methods"] if method["name"] == "fairsynth")
    rows = {
        tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in card.splitlines() if line.startswith("| ")
    }
    trained = {(g["label"], g["attribute"]): g["n"] for g in report["dataset"]["train"]}
    for group in ours["groups"]:
        name = group["label"], group["attribute"]
        counts = str(trained[name]), str(group["n"])
        assert (*name, *counts, share(group["accuracy"]), interval(group["ci95"])) in rows
    for name, key in (("worst-group accuracy", "worst_group_accuracy"), ("accuracy", "accuracy")):
        figure = ours[key]
        assert (name, share(figure["per_seed"][0]), share(figure["mean"]), interval(figure["ci95"])) in rows
    known = {share(value) for value in numbers(ours)} | {"95 %"}
    assert {*re.findall(r"\d+(?:\.\d+)? %", card)} <= known
    real, held = (sum(g["n"] for g in report["dataset"][split]) for split in ("train", "val"))
    assert f"- {real} real training images and " in card and f"- {held} validation images: " in card
    assert f"is {ours['ece']['mean']:.3f}." in card


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def interval(ends: list[float]) -> str:
    return f"{share(ends[0])} to {share(ends[1])}"


def numbers(part: Any) -> Iterator[float]:
    """Every number below a part of the report."""
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from numbers(value)
        if isinstance(value, float):
            yield value


def test_transformers_says_the_same_by_its_pipeline_and_by_its_classes(
    finished_run: Path, tests: list[dict[str, Any]]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which of its image processors it takes
        from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

        names = labels(finished_run)
        classify = pipeline("image-classification", model=str(finished_run / "classifier"), top_k=len(names))
        processor = AutoImageProcessor.from_pretrained(finished_run / "classifier")
    answers = classify([str(row["file"]) for row in tests], batch_size=64)
    found = [{one["label"]: one["score"] for one in answer} for answer in answers]
    agree(finished_run, tests, np.array([[one[name] for name in names] for one in found]), ROUNDED)

    model = AutoModelForImageClassification.from_pretrained(finished_run / "classifier")
    given = processor([Image.open(row["file"]) for row in tests], return_tensors="pt")
    with torch.inference_mode():
        agree(finished_run, tests, model(**given).logits.softmax(1).numpy(), ROUNDED)


def test_onnxruntime_says_the_same(finished_run: Path, tests: list[dict[str, Any]], tmp_path: Path) -> None:
    code, out, err = export(finished_run, "--format", "onnx", "--to", tmp_path / "c.onnx")
    assert code == 0 and not err and "checked with onnxruntime" in out
    session = onnxruntime.InferenceSession(tmp_path / "c.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == labels(finished_run)
    mean, std = (np.array(json.loads(facts[name])) for name in ("image_mean", "image_std"))
    images = np.stack([np.asarray(Image.open(row["file"]).convert("RGB")) for row in tests])
    assert images.shape[1] == images.shape[2] == int(facts["image_size"])
    pixels = ((images / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    _, found = session.run(None, {"pixel_values": pixels})
    agree(finished_run, tests, found, ROUNDED)
