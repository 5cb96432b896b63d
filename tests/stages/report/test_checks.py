"""The checks of the report: each passes on whole results, and finds what breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fairsynth.groups import Group
from fairsynth.manifest import SET_ASIDE
from fairsynth.stages.evaluate.output import predictions_file
from fairsynth.stages.report.checks import checks
from fairsynth.stages.report.content import content
from fairsynth.stages.report.inputs import Inputs
from fairsynth.stages.synthesize.output import TABLE
from fairsynth.store.seals import SEAL
from tests.support.report.finished_stages import World, finished

WORLD = World([Group(label, attribute) for label in ("ja", "nein") for attribute in ("a", "b")], seeds=2)
LOST, QUOTA, TWICE, TEST, ROWS, DETECTOR, PREDICTED, FILES = range(8)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return finished(tmp_path, WORLD)[0]


def checked(inputs: Inputs) -> list[dict[str, Any]]:
    return checks(inputs, pq.read_table(predictions_file(inputs.artifacts["evaluate"])))


def changed(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Rewrite a table."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    (path.parent / SEAL).unlink(missing_ok=True)  # so it was written, by whoever wrote it


def record_changed(inputs: Inputs, stage: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = inputs.artifacts[stage].path / "artifact.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def only(found: list[dict[str, Any]], *failed: int) -> list[str]:
    """Check that these failed and no others; returns what they say."""
    assert [i for i, check in enumerate(found) if check["passed"] is False] == [*failed], found
    return [found[i]["detail"] for i in failed]


def test_whole_results_pass_every_check(inputs: Inputs) -> None:
    found = checked(inputs)
    assert [check["passed"] for check in found] == [True] * 8
    assert found[TEST]["detail"].startswith("48 test images against 64 others")
    assert found[PREDICTED]["detail"] == "3 methods, 2 seeds each, 48 test images"


def test_images_that_a_record_does_not_account_for(inputs: Inputs) -> None:
    record_changed(inputs, "tune", lambda record: record["counts"].update(used=1))
    (told,) = only(checked(inputs), LOST)
    assert told.startswith("tune: ")
    record_changed(inputs, "tune", lambda record: record["counts"].update(used=64))
    record_changed(inputs, "ingest", lambda record: record["counts"].update(input=113, quarantined=1))
    assert only(checked(inputs), LOST) == ["ingest: 1 quarantined, but 0 in the files"]


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (
            "embed",
            "embed: 10 input, but 112 in the files; embed: 10 used, but 64 in the files; embed: 0 excluded, but 48",
        ),
        ("cluster", "cluster: 10 input, but 48 in the files; cluster: 10 used, but 48"),
        ("finetune", "finetune: 10 input, but 48 in the files; finetune: 10 used, but 48"),
        ("synthesize", "synthesize: 10 input, but 64 in the files; synthesize: 10 used, but 48"),
        ("audit", "audit: 10 input, but 48 in the files; audit: 10 used, but 48"),
        ("tune", "tune: 10 input, but 112 in the files; tune: 10 used, but 64"),
        ("evaluate", "evaluate: 10 input, but 112 in the files; evaluate: 10 used, but 48"),
    ],
)
def test_images_that_got_lost_on_the_way_to_a_stage(inputs: Inputs, stage: str, told: str) -> None:
    few = {"input": 10, "used": 10, "quarantined": 0, "excluded": 0}
    record_changed(inputs, stage, lambda record: record.update(counts=few))
    assert only(checked(inputs), LOST)[0].startswith(told)


def test_clusters_and_classifiers_that_lack_images(inputs: Inputs) -> None:
    changed(inputs.artifacts["cluster"].path / "clusters.parquet", lambda rows: rows.pop())
    assert only(checked(inputs), LOST)[0].startswith("cluster: 48 used, but 47 in the files; finetune: 48 input")
    changed(inputs.artifacts["cluster"].path / "clusters.parquet", lambda rows: rows.append(rows[0]))
    only(checked(inputs))
    inputs.artifacts["tune"].units().commit("pack-train", lambda folder: np.save(folder / "labels.npy", np.zeros(40)))
    told = "tune: 40 images of train packed for the classifiers, but 48 in the files"
    assert only(checked(inputs), LOST) == [told]


def test_images_without_a_discovered_attribute_are_accounted_for(inputs: Inputs) -> None:
    """A validation image that embed sets aside is in no later stage's images."""
    row = next(row for row in inputs.ingested.rows() if row["split"] == "val")
    embedded, n = inputs.artifacts["embed"], row["image_id"]
    changed(
        embedded.path / "units" / "images-000000" / "embeddings.parquet",
        lambda rows: [rows.remove(r) for r in [*rows] if r["image_id"] == n],
    )
    bad = [{"path": row["path"], "stage": "embed", "reason": "bad_embedding", "detail": ""}]
    pq.write_table(pa.Table.from_pylist(bad, schema=SET_ASIDE), embedded.path / "quarantine.parquet")
    record_changed(inputs, "embed", lambda record: record["counts"].update(used=63, quarantined=1))
    known = inputs.ingested.filter(i != n for i in inputs.ingested.column("image_id"))
    record_changed(inputs, "tune", lambda record: record["counts"].update(input=111, used=63))
    record_changed(inputs, "evaluate", lambda record: record["counts"].update(input=111, excluded=63))
    only(checked(Inputs(**(vars(inputs) | {"manifest": known}))))


def test_test_images_without_an_embedding_are_accounted_for(inputs: Inputs) -> None:
    """Where attributes are discovered, evaluate sets them aside."""
    row = next(row for row in inputs.manifest.rows() if row["split"] == "test")
    evaluated = inputs.artifacts["evaluate"]
    changed(
        predictions_file(evaluated), lambda rows: [rows.remove(r) for r in [*rows] if r["image_id"] == row["image_id"]]
    )
    bad = [{"path": row["path"], "stage": "evaluate", "reason": "bad_embedding", "detail": ""}]
    pq.write_table(pa.Table.from_pylist(bad, schema=SET_ASIDE), evaluated.path / "quarantine.parquet")
    only(checked(inputs), LOST)
    record_changed(inputs, "evaluate", lambda record: record["counts"].update(used=47, quarantined=1))
    only(checked(inputs))


def test_a_group_that_lacks_images_and_nobody_told(inputs: Inputs) -> None:
    record_changed(inputs, "synthesize", lambda record: record["groups"][0].update(quota=20))
    found = checked(inputs)
    assert found[QUOTA]["passed"] and "(ja, a) has 12 of 20" in found[QUOTA]["detail"]
    record_changed(inputs, "synthesize", lambda record: record.update(summary="48 images kept of 64"))
    assert only(checked(inputs), QUOTA) == ["(ja, a) has 12 of 20"]


def test_an_id_that_is_there_twice(inputs: Inputs) -> None:
    real = inputs.ingested.table["image_id"][0].as_py()
    path = inputs.artifacts["synthesize"].path / TABLE
    rejected = [i for i, row in enumerate(pq.read_table(path).to_pylist()) if row["verdict"] != "accepted"]
    changed(path, lambda rows: rows[rejected[0]].update(image_id=real))
    assert only(checked(inputs), TWICE) == [f"{real} is there twice"]


@pytest.mark.parametrize("where", ["embed", "cluster", "synthesize", "ingest"])
def test_a_test_image_among_what_was_learnt(inputs: Inputs, where: str) -> None:
    test = inputs.ingested.table.filter(pc.equal(inputs.ingested.table["split"], "test"))["image_id"][0].as_py()
    path = inputs.artifacts[where].path
    if where == "ingest":
        rows = inputs.ingested.rows()
        same = next(row["sha256"] for row in rows if row["split"] == "train")
        table = inputs.ingested.replaced("sha256", [same if row["image_id"] == test else row["sha256"] for row in rows])
        inputs = Inputs(**(vars(inputs) | {"ingested": table}))
    elif where == "embed":
        changed(path / "units" / "images-000000" / "embeddings.parquet", lambda rows: rows[0].update(image_id=test))
    elif where == "cluster":
        changed(path / "clusters.parquet", lambda rows: rows[0].update(image_id=test))
    else:
        changed(path / TABLE, lambda rows: rows[0].update(copy_of=test))
    # A test image in the place of a training image leaves one of these out.
    *_, told = only(checked(inputs), *([LOST] if where == "embed" else []), TEST)
    assert told.startswith("1 ")


@pytest.mark.parametrize("column", ["prompt", "seed", "adapter"])
def test_an_image_without_its_origin(inputs: Inputs, column: str) -> None:
    path = inputs.artifacts["synthesize"].path / TABLE
    changed(path, lambda rows: rows[3].update({column: None}))
    assert only(checked(inputs), ROWS) == [f"1 without {column}"]
    changed(path, lambda rows: rows[3].update({"prompt": "p", "seed": 7, "adapter": None, "route": "prompt"}))
    assert "1 of them by prompts alone" in checked(inputs)[ROWS]["detail"]


def test_a_detector_that_did_not_pass(tmp_path: Path) -> None:
    inputs, _ = finished(tmp_path, World(WORLD.groups, passed=False))
    assert only(checked(inputs), DETECTOR) == ["copies are not measured: too few real images"]


def test_predictions_that_lack_or_contradict_themselves(inputs: Inputs) -> None:
    path = predictions_file(inputs.artifacts["evaluate"])
    whole = pq.read_table(path)
    pq.write_table(whole.slice(1), path)
    assert only(checked(inputs), PREDICTED) == ["erm, seed 0: not each test image once"]
    pq.write_table(whole.filter(pc.not_equal(whole["seed"], 1)), path)
    assert "erm has 1 of 2 seeds" in only(checked(inputs), PREDICTED)[0]
    pq.write_table(whole, path)
    changed(path, lambda rows: rows[0].update(predicted="ja" if rows[0]["predicted"] == "nein" else "nein"))
    assert only(checked(inputs), PREDICTED) == ["1 predictions are not those of the largest probability"]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_prediction_that_is_no_label_and_probabilities_that_are_no_numbers(inputs: Inputs) -> None:
    path = predictions_file(inputs.artifacts["evaluate"])
    changed(path, lambda rows: (rows[0].update(predicted="vielleicht"), rows[1].update(predicted=None)))
    changed(path, lambda rows: rows[2].update(probabilities=[float("nan")] * 2))
    assert only(checked(inputs), PREDICTED) == ["3 predictions are not those of the largest probability"]
    told = {check["key"]: check["passed"] for check in content(inputs)["checks"]}
    assert told["predictions"] is False


def test_what_cannot_be_checked_has_failed_and_does_not_end_the_report(inputs: Inputs) -> None:
    (inputs.artifacts["audit"].path / "audit.json").write_text('{"copies": {}}')
    assert only(checked(inputs), DETECTOR) == ["could not be checked (KeyError: 'self_test')"]
    path = predictions_file(inputs.artifacts["evaluate"])
    changed(path, lambda rows: rows[0].update(probabilities=[1.0]))
    assert only(checked(inputs), DETECTOR, PREDICTED)[1].startswith("could not be checked (ValueError: ")


def test_files_that_do_not_open(inputs: Inputs) -> None:
    adapter = next(inputs.artifacts["finetune"].path.glob("units/*/*.safetensors"))
    adapter.write_bytes(adapter.read_bytes()[:-5])
    (adapter.parent / SEAL).unlink()
    (told,) = only(checked(inputs), FILES)
    assert told.startswith(f"{adapter.parent.name}/{adapter.name} does not open")


def test_tables_that_do_not_open(inputs: Inputs) -> None:
    trials = inputs.artifacts["tune"].path / "trials.csv"
    trials.write_text("".join(trials.read_text().splitlines(keepends=True)[:-2]))
    assert only(checked(inputs), FILES) == ["trials.csv has 4 rows, not 6"]
    trials.write_bytes(b"\xff\xfe")
    assert only(checked(inputs), FILES)[0].startswith("trials.csv or trials.json does not open")
    manifest = inputs.artifacts["ingest"].path / "manifest.parquet"
    manifest.write_bytes(manifest.read_bytes()[:-3])
    assert only(checked(inputs), FILES)[0].startswith("manifest.parquet does not open (")
    pq.write_table(inputs.ingested.table.slice(0, 0), manifest)
    assert only(checked(inputs), FILES)[0].startswith("manifest.parquet has no rows; trials.csv or")


def test_a_synthetic_image_that_does_not_open(tmp_path: Path) -> None:
    inputs, _ = finished(tmp_path, World([Group("ja", "a"), Group("nein", "a")], images=8, clusters=1))
    changed(
        inputs.artifacts["synthesize"].units()["u0-0"] / "images.parquet",
        lambda rows: [row.update(file=row["file"][:90]) for row in rows],
    )
    (told,) = only(checked(inputs), FILES)
    assert "does not open (" in told and "and 3 more" in told


def test_without_synthetic_images_there_is_nothing_to_check(tmp_path: Path) -> None:
    found = checked(finished(tmp_path, World(WORLD.groups, images=0))[0])
    assert [check["passed"] for check in found] == [True, True, True, True, None, None, True, True]
