"""Starts a local Ray that listens on loopback alone, or joins a cluster; workers import nothing from the current folder.

Ray gives its workers the folder in which the driver was started as the first place to import from. A dataset's folder
with a ``pandas.py`` in it would run as code then.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import site
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fairsynth.engine.address import WAYS, Place, silence
from fairsynth.engine.forks import worker
from fairsynth.engine.forks.start import Server
from fairsynth.engine.lifetime import processes
from fairsynth.engine.lifetime.few_processes import few_processes
from fairsynth.engine.ray_start import ray_folder
from fairsynth.errors import InfrastructureError

LOOPBACK = "127.0.0.1"
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Of workers wherever they are.
_WORKERS = {"PYTHONSAFEPATH": "1", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
_LOCAL = {
    # Ray's switch for systems where it keeps to loopback, which holds for its processes, too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Idle workers are useless: every stage's workers need an environment of their own.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # Nobody takes this machine away with a notice to Ray.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Ray warns when many workers start at once, which is what a run does.
    "RAY_worker_maximum_startup_concurrency": "8",
    # Memory that a training step frees is kept for the next one, in large pages: else a tenth of a small network's step
    # goes into asking for it again. Other C libraries than glibc know nothing of it.
    "GLIBC_TUNABLES": ":".join(
        f"glibc.malloc.{name}={value}"
        for name, value in {"hugetlb": 1, "mmap_threshold": 32 * 2**20, "trim_threshold": 256 * 2**20}.items()
    ),
}
_HANDLERS = "_ZN3ray6RayLog36is_failure_signal_handler_installed_E"


def join(ray: Any) -> None:
    """Join the cluster of RAY_ADDRESS. Raises InfrastructureError if ``auto`` finds none, and whatever Ray raises."""
    if os.environ.get("RAY_ADDRESS") == "auto":
        check_found()
    client = "://" in os.environ.get("RAY_ADDRESS", "")
    more = {} if client else {"job_config": _job(ray)}
    with _cpp_leaves_signals_alone(ray):
        ray.init(logging_level=logging.ERROR, log_to_driver=False, runtime_env={"env_vars": _for_the_cluster()}, **more)


def check_found() -> None:
    """Raise InfrastructureError if Ray finds no cluster on this machine, or one that does not answer."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        host, _, port = canonicalize_bootstrap_address_or_die("auto").rpartition(":")
    except ConnectionError as error:
        raise InfrastructureError(f"RAY_ADDRESS is auto, and no Ray is found here: {error}; {WAYS}") from error
    if why := silence(Place(host, port)):
        raise InfrastructureError(
            f"RAY_ADDRESS is auto, and {host}:{port}, which ran here, does not answer: {why}; {WAYS}"
        )


def start(ray: Any, forks: Server | None = None) -> None:
    """Start a local Ray, on loopback and with a token; with ``forks`` its workers are forks of that server.

    Raises InfrastructureError, and whatever Ray raises.
    """
    folder = ray_folder()
    token = Path.home() / ".ray" / "auth_token"
    there = token.exists()
    with ExitStack() as stack:
        stack.enter_context(_environment(_LOCAL | {"PYTHONSAFEPATH": "1"} | _without_current_folder()))
        if forks is not None:
            stack.enter_context(_environment(forks.begin(folder, own_path())))
        stack.enter_context(few_processes(worker.__file__ if forks else None))
        stack.enter_context(_loopback())
        stack.enter_context(_cpp_leaves_signals_alone(ray))
        ray.init(
            address="local",
            _node_ip_address=LOOPBACK,
            _temp_dir=folder,
            # Four logical CPUs at least: Ray Data needs one beside its actors to read.
            num_cpus=max(4, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=512 * 2**20,
            logging_level=logging.ERROR,
            log_to_driver=False,
            job_config=_job(ray),
        )
        if forks is not None:
            forks.ready(ray.get_runtime_context().get_job_id(), processes.started()["raylet"].pid)
    if not there:
        with suppress(OSError):  # whoever can read it can run code as this user
            token.chmod(0o600)


@contextmanager
def with_token() -> Iterator[None]:
    """A local Ray has a token, whatever RAY_AUTH_MODE says outside; what it says is put back."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is None or mode == "token":
        yield
        return
    del os.environ["RAY_AUTH_MODE"]
    try:
        yield
    finally:
        os.environ["RAY_AUTH_MODE"] = mode
        with suppress(Exception):  # Ray keeps what it has read
            sys.modules["ray._raylet"].Config.initialize("")
            sys.modules["ray._raylet"].AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def without_rays_words() -> Iterator[None]:
    """Ray prints to the driver's stdout what its processes say of tasks that fail or are ended: the run says that itself."""
    from ray._private import worker

    with _off(worker, "_worker_logs_enabled"):
        yield


def _for_the_cluster() -> dict[str, str]:
    """Variables for workers there; what a job's own environment sets already is refused a second time."""
    job: Mapping[str, Any] = {}
    with suppress(ValueError):
        job = json.loads(os.environ.get(_JOB, "{}"))
    given = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in _WORKERS.items() if name not in given}


def _job(ray: Any) -> Any:
    """Without the driver's folder among the places to import from; with that of fairsynth, if it is not installed."""
    job = ray.job_config.JobConfig()
    job._client_job = True  # Ray adds no current folder then, and nothing else changes
    if _JOB not in os.environ and (own := _own_folder()):
        job._py_driver_sys_path = [own]
    return job


def own_path() -> dict[str, str]:
    """PYTHONPATH for a process of its own, without the current folder, and with fairsynth's if it is not installed."""
    there = _without_current_folder().get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (_own_folder(), there)))}


def _own_folder() -> str:
    """The folder that fairsynth is imported from; empty if Python looks there by itself."""
    here = Path(__file__).resolve().parents[3]
    installed = {Path(one).resolve() for one in (*site.getsitepackages(), site.getusersitepackages())}
    return "" if here in installed else str(here)


def _without_current_folder() -> dict[str, str]:
    """An empty entry of PYTHONPATH means the current folder."""
    there = os.environ.get("PYTHONPATH")
    return {} if there is None else {"PYTHONPATH": os.pathsep.join(entry for entry in there.split(os.pathsep) if entry)}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of the processes that are started meanwhile; one that people set of their own stays."""
    before = {name: os.environ.get(name) for name in values}
    kept = {name for name, value in before.items() if value is not None and name != "PYTHONPATH"}
    os.environ.update({name: value for name, value in values.items() if name not in kept})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _loopback() -> Iterator[None]:
    """Ray takes another address of the machine for 127.0.0.1 otherwise, and listens on all of them."""
    from ray._private import ray_constants

    with _off(ray_constants, "ENABLE_RAY_CLUSTER"):
        yield


@contextmanager
def _off(module: Any, switch: str) -> Iterator[None]:
    """A switch of Ray's own, off while this lasts."""
    before = getattr(module, switch)
    setattr(module, switch, False)
    try:
        yield
    finally:
        setattr(module, switch, before)


@contextmanager
def _cpp_leaves_signals_alone(ray: Any) -> Iterator[None]:
    """Ray's C++ part has a handler of SIGTERM that writes a dump and aborts; it sets it once, unless it did before."""
    flag = None
    with suppress(Exception):  # another build of Ray
        flag = ctypes.c_bool.in_dll(ctypes.CDLL(sys.modules["ray._raylet"].__file__ or ""), _HANDLERS)
        before, flag.value = flag.value, True
    try:
        yield
    finally:
        if flag is not None:
            flag.value = before
