"""Finetune and synthesize on a simulated cluster of two nodes, and parity of loop and cluster."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fairsynth.artifacts import Units
from fairsynth.configuration import load_config
from tests.comparing import essence, stage_folder
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    import os

    import ray
    from ray.cluster_utils import Cluster

    # A Cluster's head has no authentication: its nodes and the driver must not either.
    before = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.pop("RAY_AUTH_MODE")
        if before is not None:
            os.environ["RAY_AUTH_MODE"] = before


def test_two_nodes_make_the_same_adapters_and_images_as_one(finished_run: Path, tmp_path: Path, two_nodes: str) -> None:
    import ray

    from fairsynth.pipeline import run

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
    assert len(found["files"]) > 48
    assert found["files"] == expected["files"]
    assert found["rows"] == expected["rows"]


def test_loop_and_cluster_write_the_same_rows(finished_run: Path, tmp_path: Path, two_nodes: str) -> None:
    import pyarrow.parquet as pq

    from fairsynth.engine.session import Session
    from fairsynth.engine.units import run_local, run_units
    from fairsynth.manifest import Manifest
    from fairsynth.stages import embed

    config = load_config(preset="demo", overrides=SMALL)
    rows = Manifest.read(stage_folder(finished_run, "ingest") / "manifest.parquet").split("train").rows()[:24]
    rows.append(dict(rows[0], image_id="zz", path="no-such-file.png"))
    units = embed.unit_rows(rows, 10)
    (root,) = (finished_run / "dataset").iterdir()
    decode, make = embed.DecodeUnit(root, units, 32), partial(embed.EmbedUnit, config.models)
    run_local(Units(tmp_path / "loop"), list(units), make, decode)
    run_units(Session(config.resources), "embed", Units(tmp_path / "cluster"), list(units), make, decode)
    for name in units:
        for table in ("embeddings", "bad"):
            local, remote = (
                pq.read_table(tmp_path / where / name / f"{table}.parquet") for where in ("loop", "cluster")
            )
            assert local.equals(remote)
    bad = [row for name in units for row in pq.read_table(tmp_path / "loop" / name / "bad.parquet").to_pylist()]
    assert [row["reason"] for row in bad] == ["missing_file"]  # and none of its neighbours
