"""Where a run's classifier lies."""

from __future__ import annotations

from pathlib import Path

from fairsynth.errors import ConfigError


def published_classifier(run: Path) -> Path:
    """The absolute path of a run's ``classifier/``; the folder itself if it holds a classifier.

    Raises ConfigError, with what to do, if there is none.
    """
    for folder in (run / "classifier", run):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return folder.resolve()
    if not run.is_dir():
        raise ConfigError(f"{run} is no folder; give the output folder of a run, or its classifier/")
    if (run / "report.json").is_file():
        raise ConfigError(
            f"the run in {run} has no classifier/: fairsynth is not among its methods; add it to tune.methods and run again"
        )
    raise ConfigError(f"{run} has no classifier/; finish the run first: fairsynth run ... --out {run}")
