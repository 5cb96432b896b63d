"""The process that workers of a local Ray are forked from. Run as a script; ``start`` has the other side.

Its words: the path of its socket, and that of Ray's ``default_worker.py``. It imports what workers need, then waits on
stdin for one line, the environment of Ray's workers: Ray's own part reads some of it as it is imported. It ends when
stdin does, so it never outlives the process that started it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from fairsynth.engine.forks.worker import ADDRESS, LENGTH, script

# What workers of most runs import, to the modules that load their models; others import the rest themselves.
_BEFORE_RAY = (
    "torch._dynamo",
    "pandas",
    "pyarrow.parquet",
    "PIL.Image",
    "scipy.stats",
    "faiss",
    "peft",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "transformers.models.clip.image_processing_pil_clip",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.schedulers.scheduling_ddim",
)
_WITH_RAY = (
    "ray.data",
    "ray.train.torch",
    "ray.tune",
    "fairsynth.engine.train",
    "fairsynth.engine.trials",
    "fairsynth.engine.units",
)
# Of the words that Ray gives its own script that sets up a worker.
_CONTEXT, _LANGUAGE = "--serialized-runtime-env-context=", "--language="
# Set by Ray in each worker, and read there later, or by nobody.
_MAY_DIFFER = frozenset(
    {
        ADDRESS,
        "PL_DISABLE_FORK",
        "PYTHONBREAKPOINT",
        "RAY_LD_PRELOAD_ON_WORKERS",
        "RAY_USAGE_STATS_ENABLED",
        "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC",
        "SPT_NOENV",
    }
)
# Seconds for a request that has begun to be whole.
_PATIENCE = 5.0
_PARTS = {"words", "environment", "folder", "nice", "blocked", "score", "files"}
Request = Mapping[str, Any]


def main(address: str) -> None:
    """Serve until stdin ends; in a fork, become the worker."""
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(address)
        here.listen(128)
        gc.disable()  # nothing that is imported is garbage
        _import(_BEFORE_RAY)
        line = sys.stdin.buffer.readline()
        environment = json.loads(line or "{}")
        os.environ.update(environment)
        if line:
            with _ids_of_the_system():
                _import(_WITH_RAY)
        gc.collect()
        gc.freeze()  # else a fork's first collection copies all that it shares
        gc.enable()
        good = bool(line) and unlike()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        request = _serve(here, environment) if good else None
    if request is None:
        shutil.rmtree(os.path.dirname(address), ignore_errors=True)
        os._exit(0)  # without a second for taking all those modules down
    _become(request)


def _import(names: tuple[str, ...]) -> None:
    """What cannot be imported, workers that need it will say."""
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)


@contextmanager
def _ids_of_the_system() -> Iterator[None]:
    """Ids that Ray draws as it is imported come from the system meanwhile.

    Its own generator has a state as soon as one number is drawn. All forks would go on from there, and two workers that
    give their tasks the same ids end a third one, which gets both.
    """
    from ray import actor

    class Ids(actor.ActorClassID):  # type: ignore[misc]
        @classmethod
        def from_random(cls) -> Any:
            return theirs(os.urandom(theirs.size()))

    theirs, actor.ActorClassID = actor.ActorClassID, Ids
    try:
        yield
    finally:
        actor.ActorClassID = theirs


def unlike() -> bool:
    """Whether two forks of this process draw unlike ids."""
    drawn = []
    for _ in range(2):
        there, here = os.pipe()
        fork = _fork()
        if fork == 0:
            os.write(here, sys.modules["ray"].UniqueID.from_random().binary())
            os._exit(0)
        os.close(here)
        drawn.append(os.read(there, 100) if select.select([there], [], [], _PATIENCE)[0] else b"")
        os.close(there)
        if fork > 0:
            os.kill(fork, signal.SIGKILL)
            os.waitpid(fork, 0)
    return all(drawn) and drawn[0] != drawn[1]


def _serve(here: socket.socket, environment: Mapping[str, str]) -> Request | None:
    """Fork for each request. Returns the request in a fork; None in the server, at the end of stdin."""
    while True:
        ready, _, _ = select.select([here, sys.stdin.fileno()], [], [])
        if sys.stdin.fileno() in ready:
            return None
        with here.accept()[0] as asker:
            request, files = _received(asker)
            forked = request is not None and len(files) == 3 and fits(request, environment) and _fork() == 0
            if forked and request is not None:
                _begin(request, files, asker)
            for file in files:
                os.close(file)
            if forked:
                return request


def _begin(request: Request, files: list[int], asker: socket.socket) -> None:
    """Be what a process of its own would be, then say so; end if nobody waits for it any more, or if it can't be done."""
    try:
        os.setpgid(0, 0)  # Ray ends a worker's whole group with it
        for number, given in enumerate(files):
            os.dup2(given, number)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(request["environment"] | _context(request["words"]).get("env_vars", {}))
        os.chdir(request["folder"])
        os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
        resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["files"]))
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(request["score"])
        signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
        asker.sendall(b"1")
    except (OSError, ValueError):
        os._exit(1)


def _received(asker: socket.socket) -> tuple[Request | None, list[int]]:
    """A request, and the files of whoever asks: its stdin, stdout, stderr. None for one that is not whole."""
    asker.settimeout(_PATIENCE)
    files = list[int]()
    with suppress(OSError, ValueError):
        head, files, _, _ = socket.recv_fds(asker, LENGTH, 3)
        length, text = int.from_bytes(head, "big"), b""
        while len(text) < length and (more := asker.recv(length - len(text))):
            text += more
        request = json.loads(text)
        return request if isinstance(request, dict) and request.keys() >= _PARTS else None, files
    return None, files


def _fork() -> int:
    with warnings.catch_warnings(), suppress(OSError):  # no memory for another: the worker starts as always, or says so
        # Of threads that a fork lacks: the libraries whose threads those are know forks.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
    return -1


def fits(request: Request, environment: Mapping[str, str]) -> bool:
    """Whether a fork of this process is what the request asks for: an environment of its own may not be."""
    context = _context(request["words"])
    wanted = request["environment"] | context.get("env_vars", {})
    differs = {name for name in {*wanted, *environment} if wanted.get(name) != environment.get(name)}
    more = {name for name, value in context.items() if value and name not in ("env_vars", "py_executable")}
    return not differs - _MAY_DIFFER and not more and context.get("py_executable", sys.executable) == sys.executable


def _context(words: list[str]) -> dict[str, Any]:
    texts = [word.removeprefix(_CONTEXT) for word in words if word.startswith(_CONTEXT)]
    return dict(json.loads(texts[0])) if texts else {}


def _become(request: Request) -> None:
    """Run Ray's worker."""
    # Generators that nobody seeds: else all forks go on from the server's state.
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()
    words = [word for word in request["words"] if not word.startswith((_CONTEXT, _LANGUAGE))]
    sys.argv = words[words.index(script(words)) :]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
