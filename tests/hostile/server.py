"""Runs commands in children forked from a process that has imported everything: no case waits for imports.

``python -m tests.hostile.server [torch]`` reads a JSON object a line (``words``, ``cwd``, ``env``, ``to``) and answers each
with how the command ended: ``code``, ``seconds`` of CPU, ``peak`` (MB resident, interpreter and all), ``late``.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

# Of a child: seconds of CPU; of the wall clock, which other work on the machine may stretch; bytes of addresses beyond those
# of its parent.
CPU_SECONDS, SECONDS, ROOM = 20, 180.0, 1536 << 20


def _warm(with_torch: bool) -> None:
    import multiprocessing.resource_tracker  # noqa: F401

    import pandas  # noqa: F401
    import PIL.Image
    import pyarrow.csv
    import pyarrow.dataset  # noqa: F401

    import fairsynth.cli
    import fairsynth.commands.doctor.run
    import fairsynth.commands.init.file
    import fairsynth.commands.inspect.run
    import fairsynth.commands.plan.run
    import fairsynth.commands.predict.run
    import fairsynth.pipeline  # noqa: F401

    PIL.Image.preinit()
    PIL.Image.init()
    if with_torch:
        import torch
        from transformers import AutoModelForImageClassification, ResNetForImageClassification  # noqa: F401

        torch.set_num_threads(1)


def _addresses() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()


def _child(task: dict[str, Any]) -> NoReturn:
    os.setsid()
    room = _addresses() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    os.chdir(task["cwd"])
    os.environ.update(task["env"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        path = os.devnull if number == 0 else os.path.join(task["to"], name)
        os.dup2(os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.argv = ["fairsynth", *task["words"]]
    code = 99
    try:
        from fairsynth.cli import script

        script()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(task: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    child = os.fork()
    if not child:
        _child(task)
    late = False
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if not late and time.monotonic() - began > SECONDS:
            late = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak": used.ru_maxrss / 1024,
        "late": late,
    }


def main() -> None:
    """Serve until the input ends."""
    _warm("torch" in sys.argv[1:])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
