"""Finetune and synthesize on a simulated cluster of two nodes, and parity of loop and cluster."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load_file

from fairsynth.artifacts import Units
from fairsynth.commands.inspect.run import inspect_dataset
from fairsynth.config import ResourcesConfig
from fairsynth.config.load import load_config
from fairsynth.data.storage import Storage
from fairsynth.errors import ConfigError, DataError, InfrastructureError
from fairsynth.pipeline import run
from tests.conftest import SMALL
from tests.support.comparing import essence, sha, stage_folder
from tests.support.datasets import tiny_folder_dataset
from tests.support.lots import difference

SCORES = ("text_score", "centroid_score", "score", "label_probability", "attribute_probability")
ROUNDED = (*SCORES, "copy_score", "copy_of", "sha256", "phash", "adapter_sha256", "second_adapter_sha256")


def assert_alike(ours: Path, theirs: Path) -> None:
    """Two files are the same but for rounding: other mates in a pass round otherwise, and nothing else."""
    if ours.suffix == ".safetensors":
        assert difference(load_file(ours), load_file(theirs)) <= 1e-4
    elif ours.suffix == ".png":
        one, other = (np.asarray(Image.open(path), np.int16) for path in (ours, theirs))
        assert np.abs(one - other).max() <= 1
    elif ours.suffix == ".json" and ours.name != "croissant.json":
        one, other = (json.loads(path.read_text("utf-8")) for path in (ours, theirs))
        for curve in ("validation", "losses"):
            points = [dict(facts.pop(curve)) for facts in (one, other)]
            assert points[0] == pytest.approx(points[1], rel=1e-4)
        assert one == other
    else:
        # Names, prompts and seeds are in the rows too; the card has its figures rounded, and the other one a hash of the rows.
        assert ours.name in ("metadata.csv", "README.md", "croissant.json"), ours


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:

    import ray
    from ray.cluster_utils import Cluster

    # A Cluster's head has no authentication: its nodes and the driver must not either.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_two_nodes_make_the_same_adapters_and_images_as_one(finished_run: Path, tmp_path: Path, two_nodes: str) -> None:
    import ray

    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    out = tmp_path / "out"
    shutil.copytree(finished_run, out)
    for stage in ("finetune", "synthesize"):
        shutil.rmtree(stage_folder(out, stage))
    for view in ("adapters", "synthetic"):
        shutil.rmtree(out / view)
    # Other lots and more workers than in the finished run: neither may show in the result.
    config = load_config(
        preset="demo", overrides=SMALL | {"out": str(out), "resources.workers": 3, "resources.adapters_per_run": 2}
    )
    for stage in ("finetune", "synthesize"):
        outcome = run(config, only=stage, say=lambda line: None)
        assert outcome.cached == ()
    expected, found = essence(finished_run), essence(out)
    assert len(found["files"]) > 48 and found["files"].keys() == expected["files"].keys()
    for name in (name for name, content in expected["files"].items() if found["files"][name] != content):
        assert_alike(out / name, finished_run / name)
    assert found["rows"].keys() == expected["rows"].keys()
    for name, row in expected["rows"].items():
        other = found["rows"][name]
        assert {k: v for k, v in other.items() if k not in ROUNDED} == {
            k: v for k, v in row.items() if k not in ROUNDED
        }
        assert [other[k] for k in SCORES] == pytest.approx([row[k] for k in SCORES], abs=5e-3)


def test_loop_and_cluster_write_the_same_rows(finished_run: Path, tmp_path: Path, two_nodes: str) -> None:
    from fairsynth.data.unit_rows import PlanRows, write_plan
    from fairsynth.engine.session import Session
    from fairsynth.engine.units import run_units
    from fairsynth.manifest import Manifest
    from fairsynth.stages.embed import embedding as embed
    from fairsynth.work import run_local

    config = load_config(preset="demo", overrides=SMALL)
    rows = Manifest.read(stage_folder(finished_run, "ingest") / "manifest.parquet").split("train").rows()[:24]
    plan, (demo,) = tmp_path / "plan.parquet", (finished_run / "dataset").iterdir()
    root = shutil.copytree(demo, tmp_path / "data")
    (root / "bad.png").write_bytes(b"no image")
    rows.append(dict(rows[0], image_id="zz", path="bad.png", sha256=sha(root / "bad.png")))
    units = write_plan(plan, embed.plan_rows(pa.Table.from_pylist(rows, embed.PLAN)), 10, "images")
    decode = embed.DecodeUnit(Storage(str(root)), PlanRows(plan), 32, config.data.images)
    make = partial(embed.EmbedUnit, config.models)
    run_local(Units(tmp_path / "loop"), units, make, decode)
    run_units(Session(config.resources), "embed", Units(tmp_path / "cluster"), units, make, decode)
    for name in units:
        for table in ("embeddings", "bad"):
            local, remote = (
                pq.read_table(tmp_path / where / name / f"{table}.parquet") for where in ("loop", "cluster")
            )
            assert local.equals(remote)
    bad = [row for name in units for row in pq.read_table(tmp_path / "loop" / name / "bad.parquet").to_pylist()]
    assert [row["reason"] for row in bad] == ["unidentified"]  # and none of its neighbours
    # A file that is not what ingest saw ends the run, on a cluster too.
    write_plan(plan, embed.plan_rows(pa.Table.from_pylist([dict(rows[0], sha256="0" * 64)], embed.PLAN)), 10, "images")
    with pytest.raises(DataError, match="input_changed"):
        run_units(Session(config.resources), "embed", Units(tmp_path / "changed"), units[:1], make, decode)


def test_a_dataset_is_checked_on_a_cluster_as_in_this_process(
    tmp_path: Path, two_nodes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many images are checked by Ray Data, few in a loop: neither manifest nor findings show which."""
    root = tiny_folder_dataset(
        tmp_path / "data", {"train": (40, 10, 10, 40), "val": (9,) * 4, "test": (9,) * 4}, changed={5: b"", 7: b"GIF8"}
    )
    lenient = {"data.root": str(root), "data.max_bad_fraction": 1, "data.max_bad_group_fraction": 1}
    found, written = [], []
    for few in (10**6, 0):
        for module in ("stages.ingest.step", "commands.inspect.run"):
            monkeypatch.setattr(f"fairsynth.{module}.FEW", few)
            monkeypatch.setattr(f"fairsynth.{module}.INGEST_UNIT", 32)
        out = tmp_path / f"out-{few}"
        config = load_config(preset="demo", overrides=lenient | {"out": str(out), "data.format": "folder"})
        run(config, only="ingest", say=lambda line: None)
        folder = stage_folder(out, "ingest")
        written.append([pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("manifest", "quarantine")])
        found.append(inspect_dataset(config))
    assert written[0] == written[1] and len(written[0][0]) == 170
    assert found[0] == found[1]
    assert {image["reason"] for image in written[0][1]} == {"empty", "unidentified"}


class Failing:
    """Work, or its preparation, that refuses one name or one batch."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __call__(self, task: Any) -> Mapping[str, Any]:
        if self.error is not None and "bad" in str(task):
            raise self.error
        return {"rows": pa.table({"n": [1]})}


def prepare(name: str) -> Mapping[str, Any]:
    if name == "bad":
        raise DataError("input_changed: now")
    return {"n": 1}


def no_model() -> Failing:
    raise ConfigError("no such model")


def make_failing() -> Failing:
    return Failing(KeyError("bad"))


def test_an_error_is_the_same_on_ray_whoever_raised_it(tmp_path: Path, two_nodes: str) -> None:
    from fairsynth.engine.session import Session
    from fairsynth.engine.units import run_units, stream

    session, units = Session(ResourcesConfig()), Units(tmp_path / "units")
    with pytest.raises(DataError, match=r"^input_changed: now$"):
        run_units(session, "embed", units, ["good", "bad"], Failing, prepare, models=False)
    with pytest.raises(ConfigError, match=r"^no such model$"):
        run_units(session, "embed", units, ["bad"], no_model, models=False)
    with pytest.raises(InfrastructureError, match="stage embed failed: KeyError: 'bad'"):
        run_units(session, "embed", units, ["bad"], make_failing, models=False)
    with pytest.raises(DataError, match=r"^no$"):
        list(stream(session, "ingest", [[{"a": "good"}], [{"a": "bad"}]], Failing(DataError("no"))))
    assert units.done() <= {"good"}
