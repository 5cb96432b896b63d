"""Where a run's classifier lies."""

from __future__ import annotations

import os
from pathlib import Path

from fairsynth.errors import ConfigError
from fairsynth.run_folder.records import damaged, read_json
from fairsynth.run_folder.weights import check_header
from fairsynth.store.mirror import newest, place_of
from fairsynth.store.view import up_to_date


def published_classifier(run: Path) -> Path:
    """The absolute path of a run's ``classifier/``; the folder itself if it holds a classifier. Of a run in a bucket it is
    fetched; ``run`` is its view then.

    Raises ConfigError, with what to do, if there is none; DataError if its files are damaged.
    """
    if place_of(run):
        up_to_date(run / "classifier")
        newest(run / "report.json")
    for folder in (run / "classifier", run):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            _check(folder)
            return folder.resolve()
    if not run.is_dir() and not place_of(run):
        raise ConfigError(f"{run} is no folder; give the output folder of a run, or its classifier/")
    if (run / "report.json").is_file():
        raise ConfigError(
            f"the run in {run} has no classifier/: fairsynth is not among its methods; add it to tune.methods and run again"
        )
    raise ConfigError(f"{run} has no classifier/; finish the run first: fairsynth run ... --out {run}")


def _check(folder: Path) -> None:
    remedy = "remove the folder, and run the run's command again: it is laid out anew from stages/"
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        path = folder / name
        try:
            if name.endswith(".json") and os.path.lexists(path):
                read_json(path)
            elif name.endswith(".safetensors"):
                check_header(path)
        except (OSError, ValueError) as error:
            raise damaged(path, str(error), remedy) from error
