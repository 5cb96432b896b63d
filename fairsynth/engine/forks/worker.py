"""What Ray runs for each worker of a local Ray: asks the fork server for one, or becomes one as Ray itself does.

Run as a script, and imports as little as it can. Its words are Ray's for a worker: the path of ``default_worker.py``, and
the arguments. Whatever is in the way of a fork, the worker starts as always, only more slowly.
"""

import json
import os
import signal
import socket
import sys

ADDRESS = "FAIRSYNTH_FORKS"
"""The variable with the path of the server's socket."""
LENGTH = 8
"""Bytes of the number that says how long the request is."""
# Seconds: the server answers when it has imported everything. Ray itself ends workers that need a minute.
_PATIENCE = 45.0


def main(words: list[str]) -> None:
    """Have a worker forked and end, else become one."""
    try:
        _ask(os.environ[ADDRESS], words)
    except (OSError, KeyError):
        setup = os.path.join(os.path.dirname(words[0]), "setup_worker.py")
        os.execv(sys.executable, [sys.executable, setup, *words])  # noqa: S606 - as Ray itself would


def _ask(address: str, words: list[str]) -> None:
    """Raises OSError if there is no server, or if it forks nothing for this worker."""
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        score = file.read().strip()
    request = {
        "words": words,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "blocked": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "score": score,
    }
    text = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(_PATIENCE)
        server.connect(address)
        socket.send_fds(server, [len(text).to_bytes(LENGTH, "big")], [0, 1, 2])
        server.sendall(text)
        if not server.recv(1):
            raise OSError("no fork")


if __name__ == "__main__":
    main(sys.argv[1:])
