"""Where figures of a run are sent for people to look at. Nothing here can change a result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fairsynth.config.types import Section

Tracker = Literal["mlflow", "wandb"]


class TrackingConfig(Section):
    """Trackers of losses and trials. Without ``to`` nothing leaves the output folder."""

    tensorboard: bool = True
    """Whether OUT/tensorboard is written."""
    to: tuple[Tracker, ...] = ()
    """Trackers that get the same figures: mlflow (to MLFLOW_TRACKING_URI), wandb (by WANDB_MODE and its login). Their packages are the extras fairsynth[mlflow] and fairsynth[wandb]."""
    project: Annotated[str, Field(min_length=1)] = "fairsynth"
    """MLflow's experiment, and the project of Weights & Biases."""
