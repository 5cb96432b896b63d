"""Finished adapters in forms that other programs read."""

from __future__ import annotations

import shutil
from pathlib import Path

from fairsynth.errors import ConfigError
from fairsynth.steps.views import new_folder


def export_kohya(run: Path, target: Path) -> int:
    """Write every adapter of a run as ``<group>--<cluster>.safetensors`` in kohya's naming; returns how many.

    Raises ConfigError if the run has no adapters, or if ``target`` is there and is no earlier export.
    """
    from fairsynth.models.adapters import FILE_NAME, to_kohya

    sources = sorted((run / "adapters").glob(f"*/*/{FILE_NAME}"))
    if not sources:
        raise ConfigError(
            f"{run} has no adapters to export; give the output folder of a run with a generator other than vanilla "
            "and finetune.parameters: adapter"
        )
    if target.exists() and not (target.is_dir() and all(p.suffix == ".safetensors" for p in target.iterdir())):
        raise ConfigError(f"{target} holds other files; give a new folder with --to")
    private = new_folder(target)
    try:
        for source in sources:
            to_kohya(source, private / f"{source.parent.parent.name}--{source.parent.name}.safetensors")
        shutil.rmtree(target, ignore_errors=True)
        private.rename(target)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return len(sources)
