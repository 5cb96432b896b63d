"""A run's classifier as an ONNX file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fairsynth.errors import ConfigError
from fairsynth.exports.onnx_model import MODEL, is_export, is_ours, require_packages, write_onnx
from fairsynth.exports.published import published_classifier
from fairsynth.lock import reading
from fairsynth.stages.views import new_export, put_export


def export_onnx(run: Path, to: Path | None = None) -> str:
    """Write the classifier of a run as ONNX; returns a line for people.

    ``to``: a file ``....onnx``, or a folder, which also gets the card and the JSON files; ``run``/classifier-onnx if not
    given. The file is run before it gets its name.
    Raises ConfigError: packages are missing, no classifier, ``to`` holds anything but an earlier export;
    OutputLockedError while a run writes there.
    """
    require_packages()
    with reading(run):
        classifier = published_classifier(run)
        target = (to or run / "classifier-onnx").resolve()
        if target.suffix.lower() == ".onnx" and not target.is_dir():
            difference = _file(classifier, target)
            shown = to
        else:
            difference = _folder(classifier, target)
            shown = (to or run / "classifier-onnx") / MODEL
    return f"{shown}: its probabilities are PyTorch's to {difference:.1g}, checked with onnxruntime"


def _folder(classifier: Path, target: Path) -> float:
    private = new_export(target, is_export)
    try:
        difference = write_onnx(classifier, private)
        put_export(private, target, is_export)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return difference


def _file(classifier: Path, target: Path) -> float:
    if target.exists() and not is_ours(target):
        raise ConfigError(f"{target} is another file; give a new name with --to")
    private = new_export(target.with_name(f"{target.name}.parts"), is_export)
    try:
        difference = write_onnx(classifier, private)
        os.replace(private / MODEL, target)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return difference
