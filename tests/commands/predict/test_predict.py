"""A run's classifier at home: transformers, fairsynth predict and the run's own predictions agree."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.calling import call, refused
from tests.support.data.dataset_files import put
from tests.support.models.classifiers import expected_of, put_run

LABELS = ["=cat", "dog\n", "<b>"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_run(tmp_path_factory.mktemp("run"), LABELS)


def test_transformers_says_what_the_trained_network_says(run: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which of its image processors it takes
        from transformers import pipeline

        classify = pipeline("image-classification", model=str(run / "classifier"), top_k=len(LABELS))
    for path, probabilities in zip(sorted((run / "images").rglob("*.png")), expected_of(run), strict=True):
        found = {entry["label"]: entry["score"] for entry in classify(Image.open(path))}
        assert [found[label] for label in LABELS] == pytest.approx(probabilities.tolist(), abs=1e-5)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predict_says_the_same(run: Path, tmp_path: Path, ending: str) -> None:
    to = tmp_path / "new" / f"table.{ending}"
    code, out, err = call("predict", run / "images", "--run", run, "--to", to)
    assert code == 0 and not err and out.startswith(f"7 images in {to}: ")
    assert "dog? " in out.splitlines()[0]
    if ending == "parquet":
        rows = pq.read_table(to).to_pylist()
        columns = [f"p: {label}" for label in LABELS]
    else:
        with open(to, encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        columns = [f"p: {label}" for label in LABELS]
    assert [row["path"] for row in rows] == [f"a/{n}.png" for n in range(7)]
    found = np.array([[float(row[name]) for name in columns] for row in rows])
    assert np.allclose(found, expected_of(run), atol=1e-5)
    best = [LABELS[i] for i in expected_of(run).argmax(1)]
    assert [row["label"].removeprefix("'") for row in rows] == best
    assert not any(row["label"].startswith("=") for row in rows) or ending == "parquet"


def test_what_cannot_be_read_has_a_reason(run: Path, tmp_path: Path) -> None:
    put(tmp_path / "images" / "good.png", (run / "images" / "a" / "0.png").read_bytes())
    put(tmp_path / "images" / "bad.jpg", b"\xff\xd8\xffxx")
    put(tmp_path / "images" / "phone.HEIC", b"\0\0\0\x18ftypheic" + bytes(99))
    put(tmp_path / "images" / "notes.txt", b"no image")
    to = tmp_path / "t.parquet"
    code, out, _ = call("predict", tmp_path / "images", "--run", run / "classifier", "--to", to)
    assert code == 0 and "3 images in" in out and "2 cannot be read (column reason)" in out
    rows = {row["path"]: row for row in pq.read_table(to).to_pylist()}
    assert rows["good.png"]["label"] and rows["good.png"]["reason"] == ""
    assert rows["phone.HEIC"]["reason"].startswith("format: HEIC") and rows["phone.HEIC"]["label"] == ""
    (tmp_path / "images" / "good.png").unlink()
    code, _, err = call("predict", tmp_path / "images", "--run", run, "--to", to)
    assert code == 3 and "none of 2 images can be read, first: bad.jpg" in err


def test_one_image_is_classified_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "images" / "a")
    code, out, _ = call("predict", "3.png", "--run", run, "--to", tmp_path / "t.parquet")
    assert code == 0 and "1 images in" in out
    (row,) = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert row["path"] == "3.png" and row["label"] == LABELS[expected_of(run)[3].argmax()]
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]  # nothing of the work is left


def test_wrong_calls_are_one_line(run: Path, tmp_path: Path) -> None:
    images = run / "images"
    assert "predict what with which run?" in refused(call("predict", images))
    assert "has no classifier/; finish the run first" in refused(call("predict", images, "--run", tmp_path))
    assert "must end in .csv or .parquet" in refused(call("predict", images, "--run", run, "--to", "x.txt"))
    assert "unexpected argument" in refused(call("predict", images, images, "--run", run))
    assert "predict has no option --cluster.k" in refused(call("predict", images, "--run", run, "--cluster.k", "3"))
    assert "label_colum'" in refused(call("predict", images, "--run", run, "--data.label_colum", "y"))
    (tmp_path / "file").touch()
    assert "cannot write to" in refused(call("predict", images, "--run", run, "--to", tmp_path / "file" / "t.csv"))
    (tmp_path / "empty").mkdir()
    code, _, err = call("predict", tmp_path / "empty", "--run", run)
    assert code == 3 and "holds no image files" in err
    code, _, err = call("predict", tmp_path / "typo", "--run", run)
    assert code == 3 and "typo does not exist; give a folder of images" in err


def test_the_labels_are_in_the_config(run: Path) -> None:
    config = json.loads((run / "classifier" / "config.json").read_text("utf-8"))
    assert config["id2label"] == {str(i): label for i, label in enumerate(LABELS)}
    assert {path.name for path in (run / "classifier").iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
