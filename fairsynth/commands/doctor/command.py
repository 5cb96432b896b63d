"""The command doctor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from fairsynth.commands.words import Tokens
from fairsynth.console import guarded, say


def doctor(
    *tokens: Tokens,
    preset: str | None = None,
    out: str | None = None,
    cluster: Annotated[bool, Parameter(negative="--no-cluster")] = True,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Check what a run needs: packages, GPUs, disk, rights, Ray, models; and say what to do.

    doctor [CONFIG.yaml] [--preset NAME] [--out DIR] [--no-cluster] [--json] [--section.key VALUE ...]

    Nothing is left behind, and no model is fetched: a hub is asked whether one may be. Without a config or a preset no
    model and no dataset is looked at. Exit code 5: something failed.

    Parameters
    ----------
    preset
        Look at what a run of this preset needs.
    out
        Output of the run: a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX.
    cluster
        Start a local Ray, or join that of RAY_ADDRESS, and ask every node.
    json
        Everything as JSON.
    """
    return guarded(lambda: _doctor(tokens, preset, out, cluster, json))


def _doctor(tokens: Sequence[str], preset: str | None, out: str | None, cluster: bool, as_json: bool) -> int:
    import json
    from pathlib import Path

    from fairsynth.commands.doctor import run
    from fairsynth.commands.doctor.check import Check
    from fairsynth.config.load import load_config, parse_overrides
    from fairsynth.store.address import Address, is_bucket

    path, rest = (tokens[0], tokens[1:]) if tokens and not tokens[0].startswith("-") else (None, tokens)
    overrides = parse_overrides(rest) | ({"out": out} if out else {})
    config = load_config(path, preset, overrides)
    about_a_run = bool(path or preset or any(key.startswith(("models.", "data.", "classify.")) for key in overrides))
    checks = list[Check]()
    root = Address.parse(config.out) if is_bucket(config.out) else Path(config.out).expanduser().resolve()
    for found in run.examine(config, root, about_a_run, cluster):
        if isinstance(found, Check):
            checks.append(found)
        if not as_json:
            say(run.line(found) if isinstance(found, Check) else found)
    failed = any(check.status == "failed" for check in checks)
    say(json.dumps(run.as_json(checks), indent=1) if as_json else run.summary(checks))
    return 5 if failed else 0
