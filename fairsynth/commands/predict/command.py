"""The command predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fairsynth.commands.words import Tokens
from fairsynth.console import guarded, say
from fairsynth.errors import ConfigError


def predict(*images: Tokens, run: Path | None = None, to: Path = Path("predictions.csv")) -> int:
    """Classify images with a run's classifier.

    predict IMAGES --run RUN [--to FILE.csv or FILE.parquet]

    IMAGES is a folder, s3://... or gs://...; what cannot be read is listed with a reason.

    Parameters
    ----------
    run
        Output folder of the run, or a classifier's folder.
    to
        The table: path, label, its probability, the probability of every label; CSV, or Parquet by its ending.
    """
    return guarded(lambda: _predict(images, run, to))


def _predict(images: Sequence[str], run: Path | None, to: Path) -> int:
    if len(images) != 1 or images[0].startswith("-") or run is None:
        raise ConfigError("predict what with which run? give both: fairsynth predict IMAGES --run RUN")
    from fairsynth.commands.predict.run import predict_images

    say(predict_images(images[0], run, to))
    return 0
