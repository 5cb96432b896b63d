"""Adapters and classifiers that learnt from images of people leave a run only if one asks for it."""

from __future__ import annotations

from pathlib import Path

from fairsynth.artifacts import finished_records
from fairsynth.errors import ConfigError
from fairsynth.exports.terms import of_people
from fairsynth.store.mirror import place_of


def require_asked(run: Path, what: str, sensitive: bool) -> None:
    """Raise ConfigError for a run on a dataset of people, unless ``sensitive`` says that it is to be exported all the same.

    ``run`` may also be its ``classifier/``. ``what``: the adapters, or the classifier.
    """
    roots = (run,) if place_of(run) else (run, run.resolve().parent)
    layouts = {str(made.get("layout")) for root in roots for _, made in finished_records(root, "ingest")}
    people = sorted(filter(of_people, layouts))
    if people and not sensitive:
        raise ConfigError(
            f"{what} of {run} learnt from images of people ({', '.join(people)}) and may reveal them, so export leaves them out; "
            "docs/limits-and-ethics.md says what to think of first; --sensitive exports them all the same"
        )
