"""``fairsynth.run``: what the command ``fairsynth run`` does, for Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairsynth.api.opened import Run, open_run
from fairsynth.commands.run.running import carry_out, checked
from fairsynth.config import RunConfig
from fairsynth.config.load import changed, load_config, preset_names, suggestion
from fairsynth.engine.session import disconnect, is_connected
from fairsynth.engine.signals import handlers_kept
from fairsynth.errors import ConfigError, InfrastructureError
from fairsynth.escaping import printable

_NOTHING = "nothing to run: give a preset, a YAML file or settings, for example fairsynth.run('demo', out='runs/demo')"


def run(
    config: RunConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    preset: str | None = None,
    out: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    say: Callable[[str], None] | None = print,
) -> Run:
    """Run the whole pipeline, as ``fairsynth run`` does; the same call resumes, and a finished run opens at once.

    Parameters
    ----------
    config
        Name of a preset, path of a YAML file, settings as such a file has them (or by dotted keys), or a ``RunConfig``.
    preset
        The preset that a file or settings change: ``fs.run({"data": {"root": "photos"}}, preset="demo")``.
    out
        Output folder, on a cluster one that all nodes share; or an address in a bucket as text: ``s3://...``, ``gs://...``.
    overrides
        Settings by dotted keys, which have the last word: ``{"cluster.k": 5}``.
    say
        Called with each line that the command would print, without characters that steer terminals; None for silence.

    Returns
    -------
    Run
        The finished run, as ``fs.open_run`` opens it.

    Raises
    ------
    ConfigError, DataError, OutputLockedError, InfrastructureError
        As the command ends with exit code 2, 3, 6 or 5.

    Notes
    -----
    Joins the Ray that this process is connected to, else that of ``RAY_ADDRESS``, else starts a local one and ends it
    when it returns, also after an interrupt. Handlers of signals are then those that were there before.

    Examples
    --------
    >>> import fairsynth as fs
    >>> run = fs.run("demo", out="runs/demo", overrides={"cluster.k": 5})  # doctest: +SKIP
    """
    settled = _settled(config, preset, out, overrides)
    checked_run = checked(settled)
    with _ended_if_interrupted(), handlers_kept():
        carry_out(checked_run, None, _line_by_line(say))
    return open_run(checked_run.root)


def _settled(
    config: RunConfig | Mapping[str, Any] | str | os.PathLike[str] | None,
    preset: str | None,
    out: str | os.PathLike[str] | None,
    overrides: Mapping[str, Any] | None,
) -> RunConfig:
    """The config, by the command line's precedence. Raises ConfigError."""
    last = dict(_plain(overrides or {})) | ({} if out is None else {"out": os.fspath(out)})
    if isinstance(config, RunConfig):
        if preset is not None:
            raise ConfigError("a RunConfig is whole: give it alone, or settings as a dictionary with the preset")
        return changed(config, last) if last else config
    if isinstance(config, Mapping):
        settings = _plain(config)
        dotted = {key: value for key, value in settings.items() if "." in str(key)}
        sections = {key: value for key, value in settings.items() if key not in dotted}
        return load_config(sections, preset, dotted | last)
    if config is None:
        if preset is None and not last.keys() - {"out"}:
            raise ConfigError(_NOTHING)
        return load_config(None, preset, last)
    if isinstance(config, str) and preset is None and _names_preset(config):
        return load_config(None, config, last)
    if not isinstance(config, str | os.PathLike):
        raise ConfigError(
            f"config is a {type(config).__name__}; give the name of a preset, the path of a YAML file, a dictionary or a RunConfig"
        )
    return load_config(os.fspath(config), preset, last)


def _names_preset(config: str) -> bool:
    """Whether text names a preset, not a file. Raises ConfigError if it can be neither."""
    names = preset_names()
    if config in names:
        return True
    if not Path(config).exists() and not config.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"{config!r} is neither a preset{suggestion(config, names)} nor a YAML file; presets: {', '.join(names)}"
        )
    return False


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Paths as text, wherever they stand: the config knows text alone."""
    return {
        key: os.fspath(value)
        if isinstance(value, os.PathLike)
        else _plain(value)
        if isinstance(value, Mapping)
        else value
        for key, value in settings.items()
    }


def _line_by_line(say: Callable[[str], None] | None) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if say is not None:
            for line in text.split("\n"):
                say(printable(line))

    return tell


@contextmanager
def _ended_if_interrupted() -> Iterator[None]:
    """An interrupted run leaves Ray to the process that ends. A notebook goes on, and its next run needs the CPUs."""
    joined = is_connected()
    try:
        yield
    except (KeyboardInterrupt, InfrastructureError):
        if not joined:
            disconnect()
        raise
