"""Ray: its address and its token, whether it starts or can be joined, and what every node says.

Ray may wait for ever, and print what it likes: it is started in a process of its own, with a time limit.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fairsynth.commands.doctor.check import Check, one_line
from fairsynth.commands.doctor.probe import leave, probe_in
from fairsynth.commands.doctor.storage import existing
from fairsynth.config import RunConfig
from fairsynth.engine.address import CLOSE, OPEN, WAYS, Place, place, silence
from fairsynth.engine.lifetime.start import own_path
from fairsynth.engine.ray_start import ray_folder
from fairsynth.errors import InfrastructureError
from fairsynth.store.address import Address

_RAY_SECONDS = 120.0
_NODE_SECONDS = 60.0


def address_checks() -> Iterator[Check]:
    """What can be said before Ray is started: RAY_ADDRESS answers, or a local Ray has a folder; and the token."""
    address = os.environ.get("RAY_ADDRESS", "")
    if not address or address in ("local", "auto"):
        yield _local_folder()
    elif there := place():
        yield _reachable(there)
    yield _token(address not in ("", "local"))


def _local_folder() -> Check:
    try:
        folder = ray_folder()
    except InfrastructureError as error:
        found, _, do = str(error).partition("; ")
        return Check("Ray's folder", "failed", found, do)
    return Check("Ray's folder", "ok", f"{folder} can be written")


def _reachable(there: Place) -> Check:
    why = silence(there)
    shown = f"RAY_ADDRESS {there}"
    if why:
        return Check("Ray's address", "failed", f"{shown} does not answer: {why[:300]}", WAYS)
    return Check("Ray's address", "ok", f"{shown} answers")


def _token(joins: bool) -> Check:
    """Ray's token: whether there is one and who can read it, never what it is."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named or "~/.ray/auth_token").expanduser()
    if mode == "disabled" and joins:
        return Check("Ray's token", "warning", OPEN, CLOSE)
    if mode == "disabled":
        return Check("Ray's token", "ok", "RAY_AUTH_MODE is disabled, and a local Ray asks for a token all the same")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Check("Ray's token", "ok", "RAY_AUTH_TOKEN is set")
    if not file.is_file():
        if named or (joins and mode == "token"):
            do = "copy the head's token there, or set RAY_AUTH_TOKEN_PATH to it"
            return Check("Ray's token", "failed", f"there is no token in {file}", do)
        told = "none; a cluster that asks for one refuses this machine" if joins else "none yet; a local Ray makes one"
        return Check("Ray's token", "ok", told)
    if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return Check("Ray's token", "warning", f"others on this machine can read {file}", f"chmod 600 {file}")
    return Check("Ray's token", "ok", f"in {file}")


def cluster_checks(config: RunConfig, root: Path | Address, with_models: bool) -> Iterator[Check]:
    """A local Ray starts, or the cluster is joined, and every node can do its part; at most two minutes."""
    base = existing(root) if isinstance(root, Path) else root
    try:
        with probe_in(base) as probe, tempfile.TemporaryDirectory() as answers:
            yield from _asked(config, probe, Path(answers) / "checks.json", with_models)
    except OSError as error:
        yield Check(
            "Ray", "warning", f"not looked at: {base} cannot be written ({one_line(error)})", "see the output folder"
        )


def _asked(config: RunConfig, probe: str, target: Path, with_models: bool) -> Iterator[Check]:
    question = json.dumps({"config": config.model_dump(mode="json"), "probe": probe, "models": with_models})
    # -P: nothing is imported from the current folder.
    words = [sys.executable, "-P", "-m", "fairsynth.commands.doctor.cluster", str(target)]
    with open(target.with_name("log"), "wb") as log:
        process = subprocess.Popen(  # noqa: S603
            words, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=os.environ | own_path()
        )
        try:
            process.communicate(question.encode(), timeout=_RAY_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if target.is_file():
        yield from (Check(*entry) for entry in json.loads(target.read_text("utf-8")))
    else:
        last = target.with_name("log").read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        found = f"no answer within {_RAY_SECONDS:g} seconds, or it died: {last[0][:300]}"
        yield Check(
            "Ray",
            "failed",
            found,
            _way_in() if os.environ.get("RAY_ADDRESS") else "end what else runs here, and try again",
        )


def _way_in() -> str:
    return "use the head's Ray and Python versions, and its RAY_AUTH_MODE and token (~/.ray/auth_token)"


def answer(question: Mapping[str, Any]) -> list[Check]:
    """The checks themselves, in the process that starts Ray."""
    from fairsynth.commands.doctor.node import look, node_checks
    from fairsynth.engine.each_node import cluster, on_each_node
    from fairsynth.engine.session import session_of

    config, probe = RunConfig.model_validate(question["config"]), question["probe"]
    token = os.urandom(16).hex()
    leave(probe, "token", token)
    # Its few workers need no libraries beforehand.
    with session_of(config.resources.model_copy(update={"fork_workers": "never"})) as session:
        try:
            found = cluster(session)
        except InfrastructureError as error:
            told, _, do = str(error).partition("; ")
            return [Check("Ray", "failed", told, _way_in() if os.environ.get("RAY_ADDRESS") else do)]
        checks = [Check("Ray", "ok", f"{found.ray}, {found.nodes} nodes, {found.cpus:g} CPUs, {found.gpus:g} GPUs")]
        work = partial(look, question["config"], probe, token, question["models"])
        answers = on_each_node(session, work, _NODE_SECONDS)
        if not answers:
            do = "set resources.workers and resources.gpus_per_worker so that a run starts nodes; ask again while it runs"
            checks.append(Check("workers", "warning", "the cluster has no node with CPUs yet", do))
        checks += node_checks(config, answers, probe)
    return checks


def _main(target: Path) -> None:
    text = json.dumps([tuple(check) for check in answer(json.load(sys.stdin))])
    part = target.with_suffix(".part")
    part.write_text(text, "utf-8")
    part.rename(target)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
