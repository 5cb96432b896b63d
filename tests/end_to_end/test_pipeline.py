"""The whole pipeline on real Ray with real (tiny) models: what it leaves, and what a second call does."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import fairsynth, small_arguments
from tests.support.calling import called
from tests.support.comparing import stage_folder

STAGES = ["ingest", "embed", "cluster", "finetune", "synthesize", "audit", "tune", "evaluate", "report"]


@pytest.fixture(scope="module")
def report(finished_run: Path) -> dict:
    return json.loads((finished_run / "report.json").read_text())


def test_the_end_is_a_table_a_verdict_and_the_path_of_the_report(finished_run: Path) -> None:
    text = (finished_run.parent / "stdout.txt").read_text()
    for word in (
        "ERM",
        "Group-DRO",
        "fairsynth",
        "worst-group accuracy (95 % over seeds)",
        "mean accuracy",
        "verdict:",
        "report:",
    ):
        assert word in text
    assert str(finished_run / "report.html") in text


def test_counts_add_up_in_every_stage(report: dict) -> None:
    assert [stage["name"] for stage in report["stages"]] == STAGES[:-1]
    for stage in report["stages"]:
        assert stage["input"] == stage["used"] + stage["quarantined"] + stage["excluded"], stage
        assert stage["seconds"] >= stage["startup_seconds"] >= 0


def test_every_method_has_all_its_figures(report: dict) -> None:
    assert [m["name"] for m in report["methods"]] == ["erm", "group-dro", "fairsynth"]
    for method in report["methods"]:
        per_group = [g["accuracy"] for g in method["groups"]]
        assert len(method["worst_group_accuracy"]["per_seed"]) == 2
        assert method["worst_group_accuracy"]["mean"] <= min(per_group) + 1e-9
        assert method["accuracy_group_mean"]["mean"] == pytest.approx(np.mean(per_group))


def test_groups_of_the_synthetic_set_are_equal(report: dict, finished_run: Path) -> None:
    assert [g["accepted"] for g in report["groups"]] == [12] * 4
    with open(finished_run / "synthetic" / "metadata.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 48
    for row in rows:
        with Image.open(finished_run / "synthetic" / row["file_name"]) as image:
            assert image.size == (32, 32)
            assert "trainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]


def test_every_synthetic_image_can_be_made_again_from_its_row(finished_run: Path) -> None:
    from fairsynth.config.load import load_config
    from fairsynth.models.adapters import FILE_NAME
    from fairsynth.models.diffusion import load_pipeline
    from tests.support.models.plain_images import generate

    folder = stage_folder(finished_run, "synthesize")
    rows = [row for row in pq.read_table(folder / "synthetic.parquet").to_pylist() if row["adapter"]][:2]
    pipeline = load_pipeline(load_config(preset="demo").models)
    for row in rows:
        # diffusers' own loader, one image at a time: not the code that made it.
        pipeline.load_lora_weights(
            stage_folder(finished_run, "finetune") / "units" / row["adapter"],
            weight_name=FILE_NAME,
            adapter_name="again",
        )
        pixels = generate(pipeline, [row["prompt"]], [row["negative_prompt"]], [row["seed"]], 32, 2, row["guidance"])[0]
        pipeline.unload_lora_weights()
        table = pq.read_table(folder / "units" / row["unit"] / "images.parquet").to_pylist()
        kept = next(r["file"] for r in table if r["image_id"] == row["image_id"])
        import io

        difference = np.abs(np.asarray(Image.open(io.BytesIO(kept)), int) - pixels.astype(int))
        assert difference.max() <= 1


def test_the_audit_tells_of_every_group_and_cluster(report: dict, finished_run: Path) -> None:
    audit = report["audit"]
    assert [g["synthetic"] for g in audit["groups"]] == [12] * 4
    assert sum(c["synthetic"] for c in audit["clusters"]) == 48
    assert {c["adapter"] for c in audit["clusters"]} == {a for g in report["groups"] for a in g["adapters"]} | (
        {""} if any(g["generator"] == "prompt" for g in report["groups"]) else set()
    )
    for group in audit["groups"]:
        assert group["held_out"] == {"high": 76, "low": 72}[group["label"]]  # half of 152 and of 145
        assert 0 <= group["agreement"]["held_out"]["probe"]["both"] <= 1
        assert group["fidelity"]["held_out"]["frechet_distance"] < group["fidelity"]["synthetic"]["frechet_distance"]
    test = audit["copies"]["self_test"]
    assert test["passed"] and test["detected"]["share"] >= 0.95 and test["false_alarms"]["share"] <= 0.02
    card = (finished_run / "synthetic" / "README.md").read_text()
    assert "planted copies found" in card and "not measured" not in card


def test_all_groups_of_an_attribute_are_made_alike(report: dict) -> None:
    made = {(g["label"], g["attribute"]): g for g in report["groups"]}
    for attribute in ("building", "flower"):
        rare, common = sorted((made[label, attribute] for label in ("high", "low")), key=lambda g: g["real"])
        assert rare["real"] == 15 and rare["generator"] in ("borrowed", "shared", "prompt")
        assert common["generator"] == ("own" if rare["generator"] == "borrowed" else rare["generator"])
        assert rare["adapters"] == common["adapters"]
    assert {(*t["group"], t["way"]) for t in report["synthesis"]["trials"]} == {
        (*group, way)
        for group, g in made.items()
        for way in ("prompt", "shared", "own" if g["real"] > 30 else "same-attribute")
    }


def test_the_test_split_is_never_embedded(finished_run: Path) -> None:
    manifest = pq.read_table(stage_folder(finished_run, "ingest") / "manifest.parquet").to_pylist()
    splits = {row["image_id"]: row["split"] for row in manifest}
    units = (stage_folder(finished_run, "embed") / "units").glob("*/embeddings.parquet")
    embedded = [i for unit in units for i in pq.read_table(unit)["image_id"].to_pylist()]
    assert {splits[i] for i in embedded} == {"train", "val"}
    assert len(embedded) == len(set(embedded)) == sum(split != "test" for split in splits.values())


def test_embeddings_have_length_one(finished_run: Path) -> None:
    for unit in (stage_folder(finished_run, "embed") / "units").glob("*/embeddings.parquet"):
        vectors = np.stack(pq.read_table(unit)["embedding"].to_numpy(zero_copy_only=False))
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_second_call_does_nothing_within_seconds(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)
    before = _times(out)
    began = time.monotonic()
    result = fairsynth("run", *small_arguments(out))
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stdout and time.monotonic() - began < 15
    assert before == _times(out)


def _times(out: Path) -> dict[Path, int]:
    """When each file was last written, without those that say that a command was at work."""
    told = {out / ".lock", out / "progress.json", *(out / "logs").iterdir()}
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path not in told}


# Fault case 61: the config changes between two runs.
def test_a_changed_field_redoes_what_depends_on_it_and_nothing_else(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)
    first = {path.name for path in (out / "stages").iterdir()}
    result = called("run", *small_arguments(out, evaluate__seeds=1, tune__methods="[erm,fairsynth]"))
    assert result.returncode == 0, result.stderr
    new = {name.rsplit("-", 1)[0] for name in {p.name for p in (out / "stages").iterdir()} - first}
    assert new == {"tune", "evaluate", "report"}
    for stage in ("ingest", "embed", "cluster", "finetune", "synthesize"):
        assert any(line.startswith(stage) and "nothing to do" in line for line in result.stdout.splitlines())
    # Back to the first settings: nothing to do, and people see the first run again, not the second.
    shown = {name: (finished_run / name).read_bytes() for name in ("report.json", "report.html", "predictions.parquet")}
    assert (out / "report.json").read_bytes() != shown["report.json"]
    result = called("run", *small_arguments(out))
    assert result.returncode == 0 and "nothing to do" in result.stdout
    assert {name: (out / name).read_bytes() for name in shown} == shown


def test_a_finished_stage_says_so_and_one_that_is_made_again_is_laid_out_again(
    finished_run: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished_run, tmp_path / "out", symlinks=True)
    card = out / "adapters" / "README.md"
    before = card.read_text("utf-8")
    result = called("cluster", *small_arguments(out))
    assert result.returncode == 0 and "everything was finished before; nothing to do" in result.stdout
    # Its view says that it is current, but the stage's record is gone, and what it shows was made from another one.
    (stage_folder(out, "finetune") / "artifact.json").unlink()
    card.write_text("old", "utf-8")
    result = called("finetune", *small_arguments(out))
    assert result.returncode == 0 and "done in" in result.stdout
    assert card.read_text("utf-8") == before


# Fault case 38: a model cannot be had.
def test_models_that_are_not_there_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    result = called("run", *small_arguments(tmp_path / "out", models__clip="/no/such/model"))
    assert result.returncode == 2 and "/no/such/model" in result.stderr
    assert not list((tmp_path / "out").rglob("*.png"))
