"""Curves as runs of Weights & Biases."""

from __future__ import annotations

import netrc
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from fairsynth.errors import ConfigError
from fairsynth.tracking.curves import Curve


def send(curves: Sequence[Curve], project: str, run: str, key: str, folder: Path) -> None:
    """Send each curve as a run of the group ``run``; files of the client go to ``folder``/wandb.

    The runs' ids follow from ``key``, so a second call does not make further ones. Raises ConfigError without a login.
    """
    require_login()
    import wandb

    for number, curve in enumerate(curves):
        name = f"{run} {curve.name}"
        with wandb.init(
            project=project,
            name=name,
            group=run,
            id=f"{key}-{number}",
            dir=str(folder),
            config=dict(curve.facts),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        ) as started:
            steps = sorted({step for points in curve.points.values() for step, _ in points})
            by_figure = {figure: dict(points) for figure, points in curve.points.items()}
            for step in steps:
                started.log({figure: some[step] for figure, some in by_figure.items() if step in some}, step=step)


def require_login() -> None:
    """Raise ConfigError where the client would ask for a login: it would do so at a terminal, hours into a run.

    A key in the environment, an entry of a netrc file (what ``wandb login`` writes) or a mode without a server will do.
    """
    if os.environ.get("WANDB_MODE", "").lower() in ("offline", "disabled", "dryrun"):
        return
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    named = os.environ.get("NETRC")
    for file in [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]:
        with suppress(OSError, RuntimeError, netrc.NetrcParseError):
            if netrc.netrc(str(file.expanduser())).authenticators(host):
                return
    raise ConfigError(
        f"tracking.to names wandb, and there is no login for {host}; run 'wandb login', or set WANDB_API_KEY, or set "
        "WANDB_MODE=offline to keep its files in the output folder"
    )
