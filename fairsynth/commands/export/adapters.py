"""Finished adapters in forms that other programs read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from fairsynth.errors import ConfigError
from fairsynth.escaping import enumerated, printable
from fairsynth.lock import reading
from fairsynth.run_folder.files import is_file, refused_link
from fairsynth.run_folder.records import damaged
from fairsynth.stages.views import new_export, put_export
from fairsynth.store.mirror import place_of
from fairsynth.store.view import up_to_date


class Exported(NamedTuple):
    """How many adapters were written, and which of them have which layers that kohya's own scripts pass over."""

    adapters: int
    passed_over: dict[str, list[str]]

    def lines(self, target: Path) -> list[str]:
        """What people are told: the adapters, and such layers, if there are any."""
        lines = [f"{self.adapters} adapters in {target}"]
        if self.passed_over:
            layers = ", ".join(sorted({layer for its in self.passed_over.values() for layer in its}))
            which = enumerated(sorted(self.passed_over), most=3)
            lines.append(
                f"warning: kohya's own scripts pass over {printable(layers)} of {len(self.passed_over)} adapters ({which}), so "
                "there their images will differ. The files hold these layers, as those in the run's adapters/ do, and "
                "diffusers, WebUI and ComfyUI read them. For kohya's scripts, train without them (finetune.target_modules, "
                "shared.target_modules)"
            )
        return lines


def export_kohya(run: Path, target: Path) -> Exported:
    """Write every adapter of a run as ``<group>--<cluster>.safetensors`` in kohya's naming.

    That which all groups share is ``shared--0.safetensors``. Raises ConfigError if the run has no adapters, or if ``target`` exists and is no earlier export.
    Raises OutputLockedError while a run writes there.
    """
    with reading(run):
        # A folder is made beside it: there is none beside "." or, on the same disk, beside a link.
        return _export(run, target.resolve())


def _export(run: Path, target: Path) -> Exported:
    from fairsynth.models.adapters import FILE_NAME

    up_to_date(run / "adapters")
    sources = {
        f"{path.parent.parent.name}--{path.parent.name}": path
        for path in sorted((run / "adapters").glob(f"*/*/{FILE_NAME}"))
    }
    shared = run / "adapters" / "shared" / FILE_NAME
    if shared.exists():
        sources["shared--0"] = shared
    if not run.is_dir() and not place_of(run):
        raise ConfigError(f"{run} is no folder; give the output folder of a run")
    if not sources:
        raise ConfigError(
            f"{run} has no adapters to export; give the output folder of a run with a generator other than vanilla, "
            "finetune.parameters: adapter, and groups whose adapters were not left out ('fairsynth finetune' says so)"
        )
    private = new_export(target, _is_export)
    passed_over = dict[str, list[str]]()
    try:
        for name, source in sources.items():
            if layers := _converted(source, private / f"{name}.safetensors"):
                passed_over[name] = layers
        put_export(private, target, _is_export)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return Exported(len(sources), passed_over)


def _converted(source: Path, target: Path) -> list[str]:
    """``adapters.to_kohya``. Raises DataError if the source is damaged or another program's."""
    from safetensors import SafetensorError

    from fairsynth.models.adapters import to_kohya

    try:
        if not is_file(source):
            raise refused_link(source)
        return to_kohya(source, target)
    except (ValueError, LookupError, TypeError, AttributeError, OSError, SafetensorError) as error:
        remedy = (
            f"remove {source.parent.parent.parent}, and run the run's command again: it is laid out anew from stages/"
        )
        raise damaged(source, str(error), remedy) from error


def _is_export(folder: Path) -> bool:
    """Whether the folder holds an earlier export alone: people may keep other adapters in it."""
    from safetensors import SafetensorError

    from fairsynth.models.adapters import read_provenance

    try:
        return all("--" in path.stem and read_provenance(path) for path in folder.iterdir())
    except (OSError, ValueError, SafetensorError):
        return False
