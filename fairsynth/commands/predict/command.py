"""The command predict."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from fairsynth.commands.words import Tokens
from fairsynth.console import guarded, say
from fairsynth.errors import ConfigError

_SECTIONS, _OPTIONS = ("data", "resources"), ("run", "to", "truth")


def predict(*images: Tokens, run: str | None = None, to: str = "predictions.csv", truth: str | None = None) -> int:
    """Classify images with a run's classifier, and tell how right it is in each group.

    predict IMAGES --run RUN [--to FILE.csv or FILE.parquet] [--truth TABLE or DATASET]

    IMAGES is a folder, one image, s3://... or gs://...; what cannot be read is listed with a reason. With many images, Ray's
    workers share them, and the same command goes on where it was killed.

    Parameters
    ----------
    run
        Output folder of the run, or a classifier's folder; s3://... or gs://... if it is in a bucket.
    to
        The table: path, label, its probability, the probability of every label; CSV, or Parquet by its ending.
    truth
        Labels and attributes of the images, for the accuracy of each group: a table with path, label, attribute
        (.csv, .tsv, .jsonl, .parquet), or a dataset's folder, such as IMAGES itself. How it is read: --data.label_column
        and the other settings of data.
    """
    return guarded(lambda: _predict(images, run, to, truth))


def _predict(images: Sequence[str], run: str | None, to: str, truth: str | None) -> int:
    if not images or images[0].startswith("-") or run is None:
        raise ConfigError("predict what with which run? give both: fairsynth predict IMAGES --run RUN")
    from fairsynth.config.load import load_config, parse_overrides

    overrides = parse_overrides(images[1:])
    for key in overrides:
        if key.split(".")[0] not in _SECTIONS:
            near = get_close_matches(key, _OPTIONS, 1)
            guess = f" (did you mean --{near[0]}?)" if near else ""
            raise ConfigError(
                f"predict has no option --{key}{guess}; it has --run, --to, --truth and the settings of {' and '.join(_SECTIONS)}"
            )
    config = load_config(None, None, overrides)
    from fairsynth.commands.export.target import local_path
    from fairsynth.commands.predict.run import predict_images
    from fairsynth.store.view import typed_root

    target = local_path(to)
    say(predict_images(images[0], typed_root(run), target, truth, config.data, config.resources))
    return 0
