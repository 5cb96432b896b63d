"""Adapters are not trained of groups that are not made, whatever synthesize would find out; all others are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from fairsynth.artifacts import Artifact, Counts, Identity
from fairsynth.config import DataConfig, RunConfig
from fairsynth.config.load import load_config
from fairsynth.engine.session import Session
from fairsynth.groups import Group
from fairsynth.models.probe import Recognised, unrecognised
from fairsynth.stages.cluster.output import recognised_facts
from fairsynth.stages.context import Context
from fairsynth.stages.finetune import step
from fairsynth.stages.finetune.left_out import left_out, left_out_remarks
from fairsynth.stages.finetune.output import Adapter
from fairsynth.stages.synthesize.decisions import Decisions, decide_groups, possible_sources
from fairsynth.stages.synthesize.image_plan import Source, quotas
from fairsynth.stages.synthesize.trial_batches import TrialBatch
from tests.conftest import small_arguments
from tests.support.calling import called
from tests.support.comparing import stage_folder
from tests.support.datasets import write_rows
from tests.support.synthesize.routes import ADAPTERS, HB, HF, LB, LF, TEMPLATE

REAL = {LB: 300, HF: 300, LF: 15, HB: 15}
WELL, BADLY = Recognised(90, 100), Recognised(50, 100)
KNOWN = dict.fromkeys(REAL, WELL)
OF_THE_LABEL = ("same-label", "same-label-half", "same-label-late", "composed")


def config(**changed: Any) -> RunConfig:
    overrides = {name.replace("__", "."): value for name, value in changed.items()}
    return load_config(preset="demo", overrides={"tune.methods": ["erm"], **overrides})


def test_nothing_is_left_out_where_all_groups_are_recognised() -> None:
    assert left_out(config(), KNOWN) == {}
    assert left_out(config(), {}) == {}, "a run that is older than this"


def test_a_group_that_is_not_recognised_takes_those_of_its_attribute_along() -> None:
    found = left_out(config(), KNOWN | {LF: BADLY})
    assert found == {"flower": {LF: BADLY}}
    (remark,) = left_out_remarks(found, 0.7)
    assert remark.startswith("no adapters for flower,")
    assert "(low, flower) 50 of 100" in remark and "70% are needed" in remark and "--filter.min_recognised 0" in remark


@pytest.mark.parametrize(
    ("changed", "whose"),
    [
        ({"filter__min_recognised": 0}, "the user wants all"),
        ({"filter__min_probability": 0}, "the filter does not ask the probe"),
        ({"synthesize__routing": "paper"}, "adapters are lent to another attribute"),
        *(({"synthesize__also_try": [route]}, "adapters are lent to another attribute") for route in OF_THE_LABEL),
        ({"synthesize__routes": {"high/building": "same-label"}}, "adapters are lent to another attribute"),
        ({"synthesize__routes": {"high/flower": "own"}}, "a group of the attribute is made whatever is found"),
        ({"synthesize__fill": True}, "a large group is not made, and takes none along"),
        ({"synthesize__absent_groups": "make"}, "a group without training images is made"),
        ({"finetune__generator": "vanilla"}, "there are none anyway"),
    ],
)
def test_what_may_be_needed_is_trained(changed: dict[str, Any], whose: str) -> None:
    assert left_out(config(**changed), KNOWN | {LF: BADLY}) == {}, whose


SEEN = st.builds(lambda right, more: Recognised(right, right + more), st.integers(0, 30), st.integers(0, 30))


def try_out(wanted: Sequence[tuple[Group, str]]) -> tuple[pa.Table, dict[tuple[Group, str], TrialBatch]]:
    return pa.table({}), {one: TrialBatch(24, 24) for one in wanted}


@settings(max_examples=300, deadline=None)
@given(
    recognised=st.fixed_dictionaries({}, optional=dict.fromkeys(REAL, SEEN)),
    real=st.fixed_dictionaries(dict.fromkeys(REAL, st.integers(0, 40))),
    changed=st.fixed_dictionaries(
        {},
        optional={
            "synthesize__routing": st.sampled_from(["auto", "paper", "own", "same-attribute", "shared", "prompt"]),
            "synthesize__fill": st.booleans(),
            "synthesize__absent_groups": st.sampled_from(["skip", "make"]),
            "synthesize__routes": st.dictionaries(st.sampled_from(["low/flower", "high/building"]), st.just("prompt")),
            "filter__min_recognised": st.sampled_from([0, 0.5, 0.7]),
        },
    ),
)
def test_whatever_is_left_out_is_not_made(
    recognised: Mapping[Group, Recognised], real: dict[Group, int], changed: dict[str, Any]
) -> None:
    how = config(**changed)
    counts = Counter({group: n for group, n in real.items() if n})
    without = left_out(how, {group: its for group, its in recognised.items() if counts[group]})
    made = {group: n for group, n in real.items() if n or how.synthesize.absent_groups == "make"}
    assume({f"{group.label}/{group.attribute}" for group in made} >= how.synthesize.routes.keys())
    quota = quotas(made, how.synthesize.per_group, how.synthesize.fill)

    def decided(adapters: Sequence[Adapter]) -> tuple[Decisions, dict[Group, list[Source]]]:
        each = dict.fromkeys(REAL, 0) | real, how.synthesize, DataConfig(), TEMPLATE, 2.0
        possible = possible_sources(list(quota), adapters, *each)
        found = decide_groups(possible, quota, real, recognised, how.synthesize, how.filter, try_out)
        return found, {group: possible[group][route.name] for group, route in found.routes.items()}

    found, sources = decided([adapter for adapter in ADAPTERS if adapter.group.attribute not in without])
    assert {group for group in quota if group.attribute in without} <= found.not_made.keys()
    assert sources == decided(ADAPTERS)[1], "the others are made as if all had been trained"
    # And the other way round, where nothing else can leave a group out: all of the probe's are known beforehand.
    refused = {group.attribute for group, why in found.not_made.items() if why.reason == "probe" and counts[group]}
    unsure = how.synthesize.routing == "paper" or how.synthesize.fill or how.synthesize.absent_groups == "make"
    if not unsure and not how.synthesize.routes:
        assert without.keys() == refused


def test_few_images_decide_nothing() -> None:
    assert unrecognised({LF: Recognised(0, 9), HB: Recognised(6, 10), HF: Recognised(7, 10)}, 0.7) == {
        HB: Recognised(6, 10)
    }


def named(root: Path, recognised: Mapping[Group, Recognised], **changed: Any) -> Artifact:
    """The artifact of finetune where cluster has found this."""
    how = config(**changed)
    context = Context(how, root, Session(how.resources))
    for stage in ("ingest", "embed", "cluster"):
        made = Artifact(root, Identity(stage, 0, {}, {}, {}))
        made.open()
        made.finish(Counts(), 0, stage, remarks=[], recognised=recognised_facts(recognised))
        context.artifacts[stage] = made
    return step.artifact(context)


def test_what_decides_who_is_left_out_renames_the_stage_only_if_that_changes(tmp_path: Path) -> None:
    badly = KNOWN | {LF: BADLY}
    part = named(tmp_path, badly)
    assert part.fingerprint == named(tmp_path, badly, filter__min_recognised=0.6).fingerprint
    whole = named(tmp_path, badly, filter__min_recognised=0.4)
    assert (
        part.fingerprint
        != whole.fingerprint
        == named(tmp_path, badly, synthesize__fill=True, classify__synthetic="fill").fingerprint
    )
    whole.open()
    whole.finish(Counts(), 0, "all")
    assert named(tmp_path, badly).fingerprint == whole.fingerprint, "all adapters are there: nothing is trained again"


COUNTS = {"train": (40, 8, 8, 40), "val": (24,) * 4, "test": (8,) * 4}


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    """Dark and bright images, and an attribute that stands in the metadata alone."""
    rows, rng = [], np.random.default_rng(0)
    for split, counts in COUNTS.items():
        for group, n in enumerate(counts):
            for number in range(n):
                name = f"{split}-{group}-{number}.png"
                pixels = 50 + 120 * (group // 2) + rng.integers(0, 80, (32, 32, 3))
                rows.append((name, ("dark", "bright")[group // 2], ("left", "right")[group % 2], split))
                path = tmp_path / "images" / name
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    write_rows(tmp_path / "images" / "metadata.csv", ("file_name", "label", "attribute", "split"), rows)
    return tmp_path / "images"


@pytest.mark.slow
def test_no_adapter_is_trained_and_the_run_ends_with_a_verdict(hidden: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    changed = {"data__format": "folder", "data__root": hidden, "filter__min_recognised": 0.7}
    done = called("run", *small_arguments(out, **changed))
    assert done.returncode == 0, done.stderr
    assert "note: no adapters for left, whose groups will not be made" in done.stdout
    assert "--filter.min_recognised 0 trains them all the same" in done.stdout
    record = json.loads((stage_folder(out, "finetune") / "artifact.json").read_text("utf-8"))
    assert record["units"] == 0 and record["counts"]["used"] == 0
    assert record["counts"]["input"] == record["counts"]["excluded"] == 80, "all clustered images, counted"
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert {group["not_made"] for group in report["groups"]} <= {"probe", "alike"}
    assert len(report["groups"]) == 4 and report["verdict"]
    # What is not known to be in vain is trained: the same run is another then.
    plan = called("plan", "--json", *small_arguments(out, **changed | {"filter__min_recognised": 0}))
    (row,) = (stage for stage in json.loads(plan.stdout)["stages"] if stage["name"] == "finetune")
    assert row["units"]["likely"] > 0 and not row["finished"] and "no adapters for" not in plan.stdout
