"""What trackers get of a finished stage: every point once, by files that TensorBoard reads, and nothing that was not asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fairsynth.artifacts import Artifact, write_json
from fairsynth.config import RunConfig, TrackingConfig
from fairsynth.errors import ConfigError
from fairsynth.preflight import check_early
from fairsynth.stages.finetune.output import curves as adapter_curves
from fairsynth.stages.tune.output import curves as trial_curves
from fairsynth.tracking import write
from fairsynth.tracking.curves import Curve
from fairsynth.tracking.write import track
from fairsynth.watching import log
from fairsynth.watching.log import logged
from tests.watching.leftovers import finish

ADAPTER = {"prompt": "a photo", "images": 9, "failed": "", "validation": [[2, 0.5], [4, 0.25]], "losses": [[1, 0.75]]}


@pytest.fixture
def finetuned(tmp_path: Path) -> Artifact:
    """Two adapters, one that all groups share, and a unit that is none."""
    artifact = finish(tmp_path, "finetune")
    for name in ("low--0", "high--0", "shared="):
        folder = artifact.units()[name]
        folder.mkdir(parents=True)
        facts = ADAPTER | ({"validation": []} if name == "shared=" else {})
        (folder / "adapter.json").write_text(json.dumps(facts))
    artifact.units()["texts="].mkdir()
    return artifact


@pytest.fixture
def tuned(tmp_path: Path) -> Artifact:
    """Two trials of one method, the second of which diverged."""
    artifact = finish(tmp_path, "tune", settings={"erm": {"epochs": 3, "augmentation": "light"}})
    trial: dict[str, Any] = {"method": "erm", "epochs": 3, "seconds": 1.5, "worst_class_accuracy": 0.5}
    trials = [
        {**trial, "number": 0, "worst_group_accuracy": 0.25, "accuracy": 0.5, "setting": {"rate": 0.1, "how": "light"}},
        {**trial, "number": 1, "worst_group_accuracy": 0.75, "accuracy": None, "setting": {"rate": 0.2, "how": "no"}},
    ]
    write_json(artifact.path / "trials.json", trials)
    return artifact


def points(root: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """By TensorBoard's own reader: run, figure, (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in sorted({path.parent for path in (root / "tensorboard").rglob("events.*")}):
        reader = EventAccumulator(str(folder)).Reload()
        scalars = {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
        found[str(folder.relative_to(root / "tensorboard"))] = scalars
    return found


@pytest.mark.slow
def test_tensorboard_reads_each_point_once_however_often_it_is_written(
    tmp_path: Path, finetuned: Artifact, tuned: Artifact
) -> None:
    for _ in range(2):
        for artifact, curves in ((finetuned, adapter_curves), (tuned, trial_curves)):
            assert track(tmp_path, TrackingConfig(), artifact, lambda c=curves, a=artifact: c(a)) == ""
    adapter, trials = finetuned.path.name, tuned.path.name
    found = points(tmp_path)
    assert found[f"{adapter}/low--0"] == {"loss/training": [(1, 0.75)], "loss/held_out": [(2, 0.5), (4, 0.25)]}
    assert found[f"{adapter}/shared"] == {"loss/training": [(1, 0.75)]}
    erm: Mapping[str, Any] = found[f"{trials}/erm"]
    assert erm["trial/worst_group_accuracy"] == [(0, 0.25), (1, 0.75)] and erm["trial/accuracy"] == [(0, 0.5)]
    assert dict(erm["setting/rate"]) == pytest.approx({0: 0.1, 1: 0.2}) and "setting/how" not in erm
    assert {name.split("/")[1] for name in found} == {"low--0", "high--0", "shared", "erm"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing half written is left"


def test_it_can_be_left_out(tmp_path: Path, tuned: Artifact) -> None:
    assert track(tmp_path, TrackingConfig(tensorboard=False), tuned, lambda: pytest.fail("nobody asked")) == ""
    assert {path.name for path in tmp_path.iterdir()} == {"stages"}


# Fault case 65: a tracker is down.
@pytest.mark.slow
def test_figures_that_cannot_be_read_or_written_end_nothing_and_are_in_the_log(tmp_path: Path, tuned: Artifact) -> None:
    def broken() -> list[Curve]:
        raise KeyError("settings")

    with logged(tmp_path):
        assert "KeyError" in track(tmp_path, TrackingConfig(), tuned, broken)
    (tmp_path / "tensorboard").write_text("in the way")
    with logged(tmp_path):
        wrong = track(tmp_path, TrackingConfig(), tuned, lambda: trial_curves(tuned))
    assert wrong.startswith("TensorBoard: FileExistsError")
    assert [line["text"] for line in log.read(tmp_path) if line["kind"] == log.FAILED][1] == f"not tracked: {wrong}"


def test_a_tracker_without_its_package_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write.importlib.util, "find_spec", lambda name: None)
    config = RunConfig.model_validate({"data": {"format": "demo"}, "tracking": {"to": ["wandb"]}})
    with pytest.raises(ConfigError, match=r"wandb, whose package is not installed; pip install 'fairsynth\[wandb\]'"):
        check_early(config, tmp_path)


@pytest.mark.slow
def test_mlflow_gets_every_point_once_also_after_a_call_that_was_cut_short(
    tmp_path: Path, finetuned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    config = TrackingConfig(tensorboard=False, to=("mlflow",), project="birds")
    for _ in range(2):
        assert track(tmp_path, config, finetuned, lambda: adapter_curves(finetuned)) == ""
        (tmp_path / ".tracked" / f"mlflow-{finetuned.path.name}").unlink()  # as if it had been killed before the mark
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("birds").experiment_id])
    assert sorted(run.info.run_name for run in runs) == [
        f"{tmp_path.name} {n}" for n in ("high--0", "low--0", "shared")
    ]
    (low,) = (run for run in runs if run.info.run_name.endswith("low--0"))
    history = client.get_metric_history(low.info.run_id, "loss/held_out")
    assert [(point.step, point.value) for point in history] == [(2, 0.5), (4, 0.25)]
    assert low.data.params == {"prompt": "a photo", "images": "9"} and low.info.status == "FINISHED"


@pytest.mark.slow
def test_weights_and_biases_gets_the_figures_offline(
    tmp_path: Path, tuned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = TrackingConfig(tensorboard=False, to=("wandb",))
    for _ in range(2):
        assert track(tmp_path, config, tuned, lambda: trial_curves(tuned)) == ""
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    own = (tmp_path / ".tracked" / "id").read_text("utf-8")
    assert run.name.endswith(f"{tuned.path.name}-{own}-0") and list(run.glob("*.wandb"))
