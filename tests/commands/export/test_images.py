"""Export of the synthetic images: the accepted ones with their files, in every format, and nothing of others is lost."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.artifacts import RECORD, Artifact, Counts, Identity
from fairsynth.commands.export import images as export_set
from fairsynth.stages.synthesize.output import accepted
from tests.conftest import small_arguments
from tests.support.calling import export, refused
from tests.support.datasets import encoded, picture, tree

FORMS = ("folder", "parquet", "webdataset")
Read = Callable[[Path], dict[str, tuple[dict[str, Any], bytes]]]


def row(i: int, **changed: Any) -> dict[str, Any]:
    """Of a stage's table: every third image was rejected."""
    plain = {
        "image_id": f"{i:04d}",
        "label": "a|b" if i % 2 else "c",
        "attribute": "d",
        "prompt": "=1+1",
        "score": i / 8,
    }
    plain |= {"adapter": None, "seed": i, "unit": f"r0-u{i % 3}", "reason": "", "verdict": "accepted"}
    return plain | ({"verdict": "rejected", "reason": "low_score"} if i % 3 == 2 or i == 4 else {}) | changed


def content(i: int) -> bytes:
    return encoded(picture(0, 0, i), "JPEG")


def write_stage(root: Path, rows: list[dict[str, Any]]) -> Artifact:
    artifact = Artifact(root, Identity("synthesize", 1, {}, {}))
    # As the stage writes it: the rows of a unit stand together.
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["unit"]))
    pq.write_table(table, artifact.open() / "synthetic.parquet")
    for unit in sorted({r["unit"] for r in rows}):
        members = [{"image_id": r["image_id"], "file": content(int(r["image_id"]))} for r in rows if r["unit"] == unit]
        (artifact.units()[unit]).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(members), artifact.units()[unit] / "images.parquet")
    artifact.finish(Counts(), 0)
    return artifact


def found(monkeypatch: pytest.MonkeyPatch, artifact: Artifact) -> None:
    """Let every config find this stage, not audited. Its record has nothing for cards: those of a real run are read below."""
    context = SimpleNamespace(artifacts={"synthesize": artifact})
    monkeypatch.setattr(export_set, "finished_stages", lambda config: nullcontext((context, None)))
    monkeypatch.setattr(export_set, "write_cards", lambda *args: (args[2] / "README.md").write_text("a card"))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Artifact]:
    """A finished synthesize stage by hand, which any config finds."""
    artifact = write_stage(tmp_path / "run", [row(i) for i in range(20)])
    found(monkeypatch, artifact)
    yield artifact


def images(tmp_path: Path, form: str, *more: str | Path) -> tuple[int, str, str]:
    return export("--preset", "demo", "--out", tmp_path / "run", "--format", form, *more)


def read_folder(folder: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as handle:
        return {r["image_id"]: (r, (folder / r["file_name"]).read_bytes()) for r in csv.DictReader(handle)}


def read_parquet(folder: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    return {r["image_id"]: (r, r["image"]["bytes"]) for r in pq.read_table(folder / "data").to_pylist()}


def read_tar(folder: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    found: dict[str, Any] = {}
    for shard in folder.glob("*.tar"):
        with tarfile.open(shard) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
        for name, data in members.items():
            if name.endswith(".json"):
                key = name.removesuffix(".json")
                found[key] = (
                    json.loads(data),
                    next(v for k, v in members.items() if k.startswith(f"{key}.") and k != name),
                )
    return found


READERS: dict[str, Read] = {"folder": read_folder, "parquet": read_parquet, "webdataset": read_tar}


@pytest.mark.parametrize("form", FORMS)
def test_the_accepted_images_are_written_with_their_rows(form: str, stage: Artifact, tmp_path: Path) -> None:
    before, target = tree(stage.path), tmp_path / "run" / f"synthetic-{form}"
    wanted = [row(i) for i in range(20) if row(i)["verdict"] == "accepted"]
    assert images(tmp_path, form) == (0, f"{len(wanted)} images in {target}\n", "")
    found = READERS[form](target)
    assert {i: file for i, (_, file) in found.items()} == {r["image_id"]: content(int(r["image_id"])) for r in wanted}
    for r in wanted:
        facts = found[r["image_id"]][0]
        assert (facts["label"], facts["attribute"], str(facts["seed"])) == (r["label"], "d", str(r["seed"]))
        assert (
            float(facts["score"]) == r["score"]
            and facts["adapter"] == ""
            and str(facts["is_synthetic"]).lower() == "true"
        )
        assert facts["prompt"] == ("'=1+1" if form == "folder" else "=1+1")
        assert not {"verdict", "reason", "unit"} & facts.keys()
    assert tree(stage.path) == before and set(os.listdir(tmp_path / "run")) == {"stages", target.name}


@pytest.mark.parametrize("form", FORMS)
def test_an_export_replaces_the_one_before_and_nothing_else(
    form: str, stage: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "there"
    target.mkdir()  # empty: nothing is lost
    assert images(tmp_path, form, "--to", target)[0] == 0
    less = write_stage(tmp_path / "other", [row(i) for i in range(4)])
    found(monkeypatch, less)
    assert images(tmp_path, form, "--to", target) == (0, f"3 images in {target}\n", "")
    assert set(READERS[form](target)) == {"0000", "0001", "0003"}
    assert sorted(os.listdir(tmp_path)) == ["other", "run", "there"]


def test_units_are_read_one_after_the_other(stage: Artifact) -> None:
    wanted = sorted(
        (row(i) for i in range(20) if row(i)["verdict"] == "accepted"), key=lambda r: (r["unit"], r["image_id"])
    )
    assert [r["image_id"] for r, _ in accepted(stage)] == [r["image_id"] for r in wanted]


def added(folder: Path) -> None:
    (folder / "mine.txt").write_text("mine")


def edited(folder: Path) -> None:
    file = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    old = file.read_bytes()
    file.write_bytes(old[:-1] + bytes([old[-1] ^ 1]))  # of the same size


def removed(folder: Path) -> None:
    next(path for path in folder.rglob("*") if path.suffix in (".jpg", ".parquet", ".tar")).unlink()


def unmarked(folder: Path) -> None:
    (folder / export_set.MARK).unlink()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", [added, edited, removed, unmarked])
def test_an_export_that_somebody_worked_on_stays(
    change: Callable[[Path], None], form: str, stage: Artifact, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    assert images(tmp_path, form, "--to", target)[0] == 0
    change(target)
    before = tree(target)
    assert "holds other files; give a new folder with --to" in refused(images(tmp_path, form, "--to", target))
    assert tree(target) == before and sorted(os.listdir(tmp_path)) == ["out", "run"]


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_fails_half_way_leaves_the_old_one(form: str, stage: Artifact, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert images(tmp_path, form, "--to", target)[0] == 0
    before = tree(target)
    shutil.rmtree(stage.units()["r0-u1"])
    code, out, err = images(tmp_path, form, "--to", target)
    assert (code, out) == (3, "") and "the stage is damaged; remove" in err and "r0-u1" in err
    assert tree(target) == before and sorted(os.listdir(tmp_path)) == ["out", "run"]


def test_where_nothing_was_accepted_there_is_nothing_to_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = write_stage(tmp_path / "run", [row(2), row(5)])
    found(monkeypatch, none)
    code, out, err = images(tmp_path, "parquet")
    assert (code, out) == (3, "") and "no synthetic image was accepted" in err
    assert os.listdir(tmp_path / "run") == ["stages"]


def test_what_cannot_be_exported_is_said_in_one_line(tmp_path: Path) -> None:
    message = refused(images(tmp_path, "parquet"))
    assert "the result of ingest is not in" in message and "run 'fairsynth ingest' with the same options" in message
    message = refused(export("--preset", "demo", "--format", "lance"))
    assert all(name in message for name in (*FORMS, "kohya"))
    assert "is a folder; give the run's CONFIG.yaml" in refused(export(tmp_path, "--format", "parquet"))
    assert "export what?" in refused(export("--format", "folder"))
    assert "cannot read the config" in refused(export(tmp_path / "no.yaml", "--format", "folder"))
    assert "unknown key" in refused(export("--preset", "demo", "--sed", "3", "--format", "folder"))
    assert "export which adapters?" in refused(export("--preset", "demo", "--format", "kohya"))
    assert "export which adapters?" in refused(export("--format", "kohya"))
    assert not (tmp_path / "run").exists() and not os.listdir(tmp_path)


def test_the_images_of_a_finished_run_are_found_by_its_options(finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    before, options = tree(run), small_arguments(run)
    assert export(*options, "--format", "parquet", "--to", tmp_path / "set")[0] == 0
    found = read_parquet(tmp_path / "set")
    (table,) = (finished_run / "stages").glob("synthesize-*/synthetic.parquet")
    rows = {r["image_id"]: r for r in pq.read_table(table).to_pylist() if r["verdict"] == "accepted"}
    assert found.keys() == rows.keys() and len(rows) > 0
    for i, (facts, file) in found.items():
        assert hashlib.sha256(file).hexdigest() == rows[i]["sha256"]
        assert (facts["label"], facts["attribute"], facts["prompt"]) == tuple(
            rows[i][n] for n in ("label", "attribute", "prompt")
        )
    # Of another config there is nothing, though its earlier stages are the same; nor of a stage that has not ended.
    other = export(*options, "--synthesize.steps", "3", "--format", "parquet", "--to", tmp_path / "other")
    assert "the result of synthesize is not in" in refused(other)
    assert tree(run) == before, "nothing is written there"
    (record,) = (run / "stages").glob(f"finetune-*/{RECORD}")
    record.unlink()
    unfinished = export(*options, "--format", "parquet")
    assert "run 'fairsynth finetune' with the same options" in refused(unfinished)
    assert sorted(os.listdir(tmp_path)) == ["run", "set"]
