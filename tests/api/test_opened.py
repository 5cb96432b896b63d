"""A finished run, opened: predictions, images, adapters and classifier are those that lie in its folder."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fairsynth as fs
from tests.conftest import SMALL
from tests.support.calling import call


@pytest.fixture(scope="module")
def opened(finished_run: Path) -> fs.Run:
    return fs.open_run(finished_run)


@pytest.mark.parametrize("there", ["nothing", "empty"])
def test_what_is_no_finished_run_is_told(tmp_path: Path, there: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(fs.ConfigError, match=r"there is no folder|holds no finished run; finish it first"):
        fs.open_run(tmp_path / there)


def test_report_settings_and_predictions(opened: fs.Run) -> None:
    content = json.loads((opened.root / "report.json").read_text("utf-8"))
    assert opened.report.content == content and opened.report.verdict == content["verdict"]
    assert opened.config.finetune.steps == SMALL["finetune.steps"] and opened.config.data.format == "demo"
    assert opened.predictions.equals(pq.read_table(opened.root / "predictions.parquet"))
    table = opened.predictions.to_pandas()
    right = table[table.method == "erm"].eval("label == predicted").groupby([table.label, table.attribute]).mean()
    for group in opened.report.methods["erm"].groups:
        assert group.accuracy == pytest.approx(right[group.group])
    assert repr(opened).startswith("<Run in ") and "<table>" in opened._repr_html_()


def test_synthetic_images_are_the_files(opened: fs.Run) -> None:
    with open(opened.root / "synthetic" / "metadata.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(opened.synthetic) == len(rows) == sum(group.synthetic for group in opened.report.groups) > 0
    for one, row in zip(opened.synthetic, rows, strict=True):
        assert Path(one.path) == opened.root / "synthetic" / row["file_name"]
        assert (one.image_id, one.label, one.attribute) == (row["image_id"], row["label"], row["attribute"])
        assert (one.prompt, str(one.seed)) == (row["prompt"], row["seed"])
    for one in opened.synthetic[::5]:
        assert np.array_equal(np.asarray(one.image), np.asarray(Image.open(one.path).convert("RGB")))
    assert opened.synthetic.counts == {g.group: g.synthetic for g in opened.report.groups if g.synthetic}
    assert {*opened.synthetic.table.column_names} == {*rows[0]} - _COLUMNS_OF_THE_VIEW | {"path"}


# What the view says of every image alike, or of the adapter, for people who have the view alone.
_COLUMNS_OF_THE_VIEW = {"file_name", "is_synthetic", "source"}


def test_real_images_are_the_files(opened: fs.Run) -> None:
    folder = opened.root / "dataset" / "demo-0"
    train = opened.real.where(split="train")
    assert len(train) == 600 and train.counts[fs.Group("high", "flower")] > 200
    for one in [*train[:3], *opened.real.where(split="test")[:3]]:
        assert one.file == (folder / one.path).read_bytes()
        assert np.array_equal(np.asarray(one.image), np.asarray(Image.open(folder / one.path).convert("RGB")))
        assert hashlib.sha256(one.path.encode()).hexdigest().startswith(one.image_id)
    assert opened.manifest.num_rows == len(opened.real)
    with pytest.raises(fs.ConfigError, match=r"no split 'tset' \(did you mean 'test'"):
        opened.real.where(split="tset")


def test_the_classifier_says_what_predictions_and_predict_say(opened: fs.Run, tmp_path: Path) -> None:
    table = opened.predictions.to_pandas().query("method == 'fairsynth' and seed == 0").set_index("image_id")
    test = [*opened.real.where(split="test")[::20]]
    said = opened.classifier([one.image for one in test])
    assert opened.classifier.labels == opened.real.labels == ("high", "low") and len(said) == len(test) > 60
    for one, seen in zip(test, said, strict=True):
        assert [*seen.probabilities.values()] == pytest.approx(table.loc[one.image_id].probabilities, abs=1e-6)
        assert seen.label == table.loc[one.image_id].predicted and seen.probability == max(seen.probabilities.values())
    for one in test[:9]:
        (tmp_path / f"{one.image_id}.png").write_bytes(one.file)
    code, *_ = call("predict", tmp_path, "--run", opened.root, "--to", tmp_path / "t.parquet")
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    paths = [tmp_path / row["path"] for row in rows]
    assert code == 0 and len(rows) == 9
    for kind in (paths, [*map(str, paths)], [path.read_bytes() for path in paths], [_array(path) for path in paths]):
        for row, seen in zip(rows, opened.classifier(kind), strict=True):
            assert (row["label"], row["p: high"]) == (seen.label, pytest.approx(seen.probabilities["high"], abs=1e-6))
    assert opened.classifier(paths[0]).label == rows[0]["label"]
    assert opened.classifier(np.stack([_array(path) for path in paths])) == opened.classifier(paths)


def _array(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_what_is_no_image_is_told_with_its_place(opened: fs.Run, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"text")
    for given, told in (
        ([tmp_path / "bad.png"], r"image '.*bad\.png' cannot be read \(unidentified"),
        (tmp_path / "none.png", "none.png' cannot be read: No such file"),
        (tmp_path, "is a folder; give its images"),
        ([_array(Path(opened.synthetic[0].path)), b""], r"image number 1 cannot be read \(empty\)"),
        (np.zeros((4, 4, 3)), r"an array of float64, \(4, 4, 3\) is no image"),
        ([None], "a NoneType is no image"),
    ):
        with pytest.raises(fs.DataError, match=told):
            opened.classifier(given)  # type: ignore[arg-type]
    assert opened.classifier([]) == []


def test_adapters_are_found_by_their_group_and_load_into_diffusers(opened: fs.Run) -> None:
    from diffusers import StableDiffusionPipeline

    adapters = opened.adapters
    assert len(adapters) == len([*opened.root.glob("adapters/*/*/pytorch_lora_weights.safetensors")]) > 0
    key = next(iter(adapters))
    assert key in adapters and tuple(key) in adapters and ("none", "none", 0) not in adapters
    assert adapters[key.label, key.attribute, key.cluster] == opened.root / "adapters" / fs.Group(*key[:2]).slug / "0"
    assert adapters.facts(*key)["images"] > 0 and adapters.shared == opened.root / "adapters" / "shared"
    with pytest.raises(KeyError, match=r"no adapter \('high', 'sky', 0\); a key is \(label, attribute, cluster\)"):
        adapters["high", "sky", 0]
    pipeline = StableDiffusionPipeline.from_pretrained(adapters.base)
    pipeline.load_lora_weights(adapters[key])
    assert pipeline.get_active_adapters() == ["default_0"]


def test_a_run_that_was_moved_is_opened_and_what_is_gone_is_told(finished_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished_run, moved)
    run = fs.open_run(moved)
    assert run.real[0].file and moved in Path(run.synthetic[0].path).parents
    Path(run.synthetic[0].path).write_bytes(Path(run.synthetic[1].path).read_bytes())
    with pytest.raises(fs.DataError, match="is not the image that this run made"):
        _ = run.synthetic[0].image
    Path(run.synthetic[1].path).unlink()
    with pytest.raises(fs.DataError, match="No such file"):
        _ = run.synthetic[1].image
    (moved / "dataset" / "demo-0" / run.real[0].path).write_bytes(b"other")
    with pytest.raises(fs.DataError, match="is not what it was"):
        _ = run.real[0].image
    for name in ("stages", "classifier"):
        shutil.rmtree(moved / name)
    (moved / "predictions.parquet").unlink()
    gone = fs.open_run(moved)
    for name, told in (("synthetic", "synthesize"), ("real", "ingest"), ("predictions", "lacks predictions.parquet")):
        with pytest.raises(fs.DataError, match=told):
            getattr(gone, name)
    with pytest.raises(fs.ConfigError, match="fairsynth was not among the run's methods"):
        _ = gone.classifier
    assert len(gone.adapters) == len(run.adapters) and gone.report.content == run.report.content
