"""Sets that lack groups, or have no image at all: what is recorded, and that everything that reads a set reads these."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fairsynth.artifacts import Artifact
from fairsynth.commands.bench.measure import _generation
from fairsynth.models.probe import Recognised
from fairsynth.stages.synthesize.output import (
    TABLE,
    GroupRecord,
    accepted,
    accepted_mask,
    group_records,
    members,
    read_files,
    stream,
    unfiltered_mask,
)
from fairsynth.stages.synthesize.records import remarks_on, shortfall
from fairsynth.stages.synthesize.view import show, write_cards
from tests.support.synthesize.empty_sets import ALIKE, ALL, CONFIG, NOT_SHOWN, stage
from tests.support.synthesize.routes import HB, HF, LB, LF

BUILDINGS = (HB, LB)
SOME = pytest.mark.parametrize("made", [(), BUILDINGS, ALL])


@pytest.fixture
def context(tmp_path: Path) -> Any:
    """What the view needs of a run."""
    identity = {"diffusion": "abc", "clip": "def", "dtype": "float32", "image_size": "32"}
    return SimpleNamespace(config=CONFIG, root=tmp_path, model_identity=identity)


def records(artifact: Artifact) -> dict[Any, GroupRecord]:
    return {record.group: record for record in group_records(artifact)}


def test_a_group_that_was_not_made_has_its_reason_and_no_image(tmp_path: Path) -> None:
    found = records(stage(tmp_path, BUILDINGS))
    assert (found[LF].not_made, found[LF].why) == NOT_SHOWN and (found[HF].not_made, found[HF].why) == ALIKE
    for group in (LF, HF):
        record = found[group]
        assert (record.origin, record.route, record.k, record.adapters, record.prompts) == ("none", "none", 0, (), ())
        assert (record.quota, record.made, record.accepted, record.rejected) == (3, 0, 0, {})
        assert record.remark == "" and record.probe_agreement_made is None
    assert found[HB].not_made == "" and found[HB].origin == "prompt" and found[HB].accepted == 3
    assert found[HB].recognised == found[LF].recognised == Recognised(8, 10)


def test_the_line_of_the_stage_and_its_remarks_say_what_was_not_made(tmp_path: Path) -> None:
    some, nothing, every = (
        group_records(stage(tmp_path / str(i), made)) for i, made in enumerate((BUILDINGS, (), ALL))
    )
    assert shortfall(some) == "; NOT MADE: (high, flower), (low, flower)"
    assert shortfall(nothing).count("(") == 4 and shortfall(every) == ""
    assert f"group (low, flower): not made ({NOT_SHOWN.why})" in remarks_on(some)
    assert len(remarks_on(some)) == 4 and remarks_on(every)[0].startswith("group (high, building): prompt (no group")
    lacking = [record if record.group != HB else _with(record, accepted=1) for record in some]
    assert shortfall(lacking) == "; NOT MADE: (high, flower), (low, flower); SHORTFALL (high, building) lacks 2"


def _with(record: GroupRecord, **changed: Any) -> GroupRecord:
    return GroupRecord(**(vars(record) | changed))


@SOME
def test_counts_add_up_and_a_record_survives_the_file(tmp_path: Path, made: tuple[Any, ...]) -> None:
    artifact = stage(tmp_path, made)
    counts = artifact.record["counts"]
    assert counts["input"] == counts["used"] + counts["quarantined"] + counts["excluded"] == 4 * len(made)
    assert counts["used"] == sum(record.accepted for record in group_records(artifact)) == 3 * len(made)
    for record in group_records(artifact):
        assert GroupRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_record_of_an_older_stage_can_be_read(tmp_path: Path) -> None:
    (record, *_) = group_records(stage(tmp_path, ALL))
    old = {key: value for key, value in record.to_json().items() if key not in ("not_made", "recognised")}
    assert GroupRecord.from_json(old) == _with(record, recognised=Recognised(0, 0))


@SOME
def test_a_set_has_the_same_columns_whatever_it_lacks(tmp_path: Path, made: tuple[Any, ...]) -> None:
    schema = pq.read_schema(stage(tmp_path / "a", made).path / TABLE)
    assert schema.equals(pq.read_schema(stage(tmp_path / "b", ALL).path / TABLE))


@SOME
def test_whoever_reads_a_set_finds_the_groups_that_are_there(tmp_path: Path, made: tuple[Any, ...]) -> None:
    artifact = stage(tmp_path, made)
    table = pq.read_table(artifact.path / TABLE)
    assert {group: len(places) for group, places in members(table).items()} == dict.fromkeys(made, 4)
    rows = list(accepted(artifact))
    assert len(rows) == accepted_mask(artifact).sum() == 3 * len(made)
    assert {(row["label"], row["attribute"]) for row, _ in rows} == {tuple(group) for group in made}
    # FFR, which knows no filter, takes the first images of each group up to its quota.
    first = unfiltered_mask(artifact)
    assert first.dtype == bool and len(first) == 4 * len(made) and first.sum() == 3 * len(made)
    assert len(list(stream(artifact, first))) == 3 * len(made)
    assert len(read_files(artifact, table.to_pylist())) == 4 * len(made)
    assert list(stream(artifact, np.zeros(len(first), bool))) == []


@SOME
def test_the_bench_counts_the_images_that_were_made(tmp_path: Path, made: tuple[Any, ...]) -> None:
    other = SimpleNamespace(record={"seconds": 1.5, "workers": 2})
    artifacts = dict.fromkeys(("embed", "cluster", "finetune"), other) | {"synthesize": stage(tmp_path, made)}
    images, seconds = _generation(SimpleNamespace(artifacts=artifacts))  # type: ignore[arg-type]
    assert images == 4 * len(made) and seconds == pytest.approx(9)


@SOME
def test_the_view_and_its_cards_tell_what_is_there(tmp_path: Path, context: Any, made: tuple[Any, ...]) -> None:
    artifact = stage(tmp_path, made)
    show(context, artifact, fresh=True)
    folder = tmp_path / "synthetic"
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(list(folder.glob("images/*/*.png"))) == 3 * len(made)
    card = " ".join((folder / "README.md").read_text("utf-8").split())
    there = "4" if len(made) == 4 else f"{len(made)} of 4"
    assert f"{3 * len(made)} synthetic images in {there} \\(label, attribute\\) groups" in card
    assert f"In all {3 * len(made)} of {4 * len(made)} generated images are in the set" in card
    assert ("There is nothing to load: the set is empty." in card) == (not made)
    assert ("import datasets" in card) == bool(made)
    lacking = [group for group in ALL if group not in made]
    assert ("Groups that were not made" in card) == bool(lacking)
    assert card.count("| not made |") == len(lacking) and "smaller than was wanted" not in card
    described = json.loads((folder / "croissant.json").read_text("utf-8"))
    assert f"{3 * len(made)} synthetic images in {there}" in described["description"]


# Of the config guidance is 7.5, and no row has that.
WAYS = {LB: ("own", 6.0), HB: ("same-attribute", 3.0), LF: ("shared", 2.0)}


@pytest.mark.parametrize(
    ("made", "ways", "said"),
    [
        (BUILDINGS, {}, "20 steps, guidance 5; 512 px"),
        (
            ALL,
            WAYS,
            "20 steps, guidance 3 by borrowed adapters, 6 by the groups' own adapters, 5 by the base model alone, "
            "2 by the adapter of all groups; 512 px",
        ),
        ((), {}, "20 steps; 512 px"),
    ],
)
def test_the_cards_tell_the_guidance_that_was_used(
    tmp_path: Path, context: Any, made: tuple[Any, ...], ways: Any, said: str
) -> None:
    show(context, stage(tmp_path, made, ways), fresh=True)
    used = f"DPMSolverMultistepScheduler, {said}"
    assert used in (tmp_path / "synthetic" / "README.md").read_text("utf-8")
    described = (tmp_path / "synthetic" / "croissant.json").read_text("utf-8")
    assert f"({used.partition(';')[0]})" in json.loads(described)["prov:wasGeneratedBy"]["sc:description"]


@pytest.mark.parametrize("made", [(LB,), (LB, LF)])
def test_the_card_tells_how_the_shared_adapter_was_trained_if_it_made_a_group(
    tmp_path: Path, context: Any, made: tuple[Any, ...]
) -> None:
    show(context, stage(tmp_path, made, WAYS), fresh=True)
    card, how = (tmp_path / "synthetic" / "README.md").read_text("utf-8"), CONFIG.shared
    told = f"that of all groups: {how.steps} steps of {how.batch_size} images, learning rate {how.learning_rate:g}"
    assert (told in card) == (LF in made)


@pytest.mark.parametrize("layout", ["parquet", "webdataset"])
def test_other_layouts_have_a_card_too(tmp_path: Path, context: Any, layout: Any) -> None:
    write_cards(context, stage(tmp_path), tmp_path, None, layout)
    assert "There is nothing to load" in (tmp_path / "README.md").read_text("utf-8")
