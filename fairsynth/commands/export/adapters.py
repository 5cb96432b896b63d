"""Finished adapters in forms that other programs read."""

from __future__ import annotations

import shutil
from pathlib import Path

from fairsynth.errors import ConfigError
from fairsynth.stages.views import new_export


def export_kohya(run: Path, target: Path) -> int:
    """Write every adapter of a run as ``<group>--<cluster>.safetensors`` in kohya's naming; returns how many.

    That which all groups share is ``shared--0.safetensors``. Raises ConfigError if the run has no adapters, or if ``target`` exists and is no earlier export.
    """
    from fairsynth.models.adapters import FILE_NAME, to_kohya

    # A folder is made beside it: there is none beside "." or, on the same disk, beside a link.
    target = target.resolve()
    sources = {
        f"{path.parent.parent.name}--{path.parent.name}": path
        for path in sorted((run / "adapters").glob(f"*/*/{FILE_NAME}"))
    }
    shared = run / "adapters" / "shared" / FILE_NAME
    if shared.exists():
        sources["shared--0"] = shared
    if not run.is_dir():
        raise ConfigError(f"{run} is no folder; give the output folder of a run")
    if not sources:
        raise ConfigError(
            f"{run} has no adapters to export; give the output folder of a run with a generator other than vanilla "
            "and finetune.parameters: adapter"
        )
    private = new_export(target, _is_export)
    try:
        for name, source in sources.items():
            to_kohya(source, private / f"{name}.safetensors")
        shutil.rmtree(target, ignore_errors=True)
        private.rename(target)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return len(sources)


def _is_export(folder: Path) -> bool:
    """Whether the folder holds an earlier export alone: people may keep other adapters in it."""
    from safetensors import SafetensorError

    from fairsynth.models.adapters import read_provenance

    try:
        return all("--" in path.stem and read_provenance(path) for path in folder.iterdir())
    except (OSError, ValueError, SafetensorError):
        return False
