"""Tracks a finished stage once, whoever finished it: a mark says that it was done."""

from __future__ import annotations

import importlib.util
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from fairsynth.artifacts import Artifact
from fairsynth.config import TrackingConfig
from fairsynth.errors import ConfigError
from fairsynth.store.mirror import newest, sent, tree_sent
from fairsynth.store.view import up_to_date
from fairsynth.tracking.curves import Curve
from fairsynth.watching.log import failed
from fairsynth.watching.redaction import redacted

FOLDER = "tensorboard"
_MARKS = ".tracked"


def check(config: TrackingConfig) -> None:
    """Raise ConfigError for a tracker whose package is missing, or that would ask for a login."""
    for name in config.to:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"tracking.to names {name}, whose package is not installed; pip install 'fairsynth[{name}]', or leave it out"
            )
    if "wandb" in config.to:
        from fairsynth.tracking.wandb import require_login

        require_login()


def track(root: Path, config: TrackingConfig, artifact: Artifact, curves: Callable[[], Sequence[Curve]]) -> str:
    """Write or send a finished stage's curves, unless that was done before; returns what failed, empty if nothing did.

    What fails is in the run's log; the stage is none the worse, and the next run tries again.
    """
    name, wrong = artifact.name, list[str]()
    ways: dict[str, Path] = {tracker: root / _MARKS / f"{tracker}-{name}" for tracker in config.to}
    ways |= {"TensorBoard": root / FOLDER / name} if config.tensorboard else {}
    missing = {way: mark for way, mark in ways.items() if not _there(way, mark)}
    try:
        found = list(curves()) if missing else []
    except Exception as error:  # what people look at is no reason to stop
        found, wrong = [], [_told(artifact, "the stage's figures", error)]
    for way, mark in missing.items() if found else ():
        try:
            if way == "TensorBoard":
                _events(found, mark, artifact)
            else:
                _sent(found, mark, f"{root}".rpartition("/")[2], config.project, way, artifact)
        except Exception as error:
            wrong.append(_told(artifact, way, error))
    return "; ".join(wrong)


def _there(way: str, mark: Path) -> bool:
    """Whether it was written or sent before, on another machine perhaps."""
    return (up_to_date(mark) if way == "TensorBoard" else newest(mark)).exists()


def _told(artifact: Artifact, way: str, error: Exception) -> str:
    why = f"{way}: {type(error).__name__}: {redacted(' '.join(str(error).split()))[:300]}"
    failed(artifact.identity.stage, "", f"not tracked: {why}")
    return why


def _events(curves: list[Curve], target: Path, artifact: Artifact) -> None:
    from fairsynth.tracking import tensorboard

    # TensorBoard would show what is half written, so it lies elsewhere until it is complete.
    private = target.parent.with_name(f".{FOLDER}.{uuid.uuid4().hex}")
    try:
        tensorboard.write(curves, private, artifact.record["finished_at"])
        target.parent.mkdir(exist_ok=True)
        private.rename(target)
        tree_sent(target)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _sent(curves: list[Curve], mark: Path, run: str, project: str, tracker: str, artifact: Artifact) -> None:
    mark.parent.mkdir(exist_ok=True)
    key, when = f"{artifact.name}-{_id_of(mark.parent)}", artifact.record["finished_at"]
    if tracker == "mlflow":
        from fairsynth.tracking import mlflow

        mlflow.send(curves, project, run, key, when)
    else:
        from fairsynth.tracking import wandb

        wandb.send(curves, project, run, key, mark.parent.parent)
    mark.write_text("", "utf-8")
    sent(mark)


def _id_of(marks: Path) -> str:
    """What tells this output folder from all others: people who share a server may run one config, and so one artifact."""
    path = marks / "id"
    if not newest(path).exists():
        private = marks / f".id.{uuid.uuid4().hex}"
        private.write_text(uuid.uuid4().hex[:12], "utf-8")
        os.replace(private, path)
        sent(path)
    return path.read_text("utf-8")
