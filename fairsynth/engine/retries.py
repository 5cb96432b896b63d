"""Notes in the log of the output folder what Ray tries again: jobs of Ray Train, trials of Ray Tune."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from ray.train import UserCallback
from ray.tune import Callback

from fairsynth.watching.log import failure


class JobRetries(UserCallback):
    """Called where Ray Train controls a job, which may be another machine: the folder is shared."""

    def __init__(self, root: Path, stage: str, job: str) -> None:
        self.root, self.stage, self.job = root, stage, job

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Note the first worker's failure; whether it was the last attempt is told by the run itself."""
        for rank, error in sorted(worker_exceptions.items())[:1]:
            trace = "".join(traceback.format_exception(error))
            why = f"{type(error).__name__}: {' '.join(str(error).split())[-400:]}"
            failure(self.root, self.stage, self.job, f"worker {rank}: {why}", trace, again=True)


class TrialRetries(Callback):
    """Called in the driver."""

    def __init__(self, root: Path, stage: str) -> None:
        super().__init__()
        self.root, self.stage = root, stage

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that a trial failed and is begun again."""
        name, error = str(trial.config.get("trial", trial)), trial.get_error()
        why = " ".join(str(error or "its process ended").split())[-400:]
        trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
        failure(self.root, self.stage, name, why, trace, again=True)
