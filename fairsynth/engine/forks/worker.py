"""What Ray runs for each worker of a local Ray: asks the fork server for one, or becomes one as Ray itself does.

Run as a script, and imports as little as it can. Its words are Ray's for a worker: perhaps flags of Python, the path of
``default_worker.py``, and the arguments. Whatever is in the way of a fork, the worker starts as always, only more slowly.
"""

import json
import os
import resource
import signal
import socket
import struct
import sys

ADDRESS = "FAIRSYNTH_FORKS"
"""The variable with the path of the server's socket."""
LENGTH = 8
"""Bytes of the number that says how long the request is."""
# Seconds: the server answers when it has imported everything. Ray itself ends workers that need a minute.
_PATIENCE = 25.0
_CREDENTIALS = "3i"  # process, user, group


def main(words: list[str]) -> None:
    """Have a worker forked and end, else become one."""
    address = os.environ.pop(ADDRESS, None)
    try:
        if address is not None and _is_forked(address, words):
            return
    except OSError:
        pass
    setup = os.path.join(os.path.dirname(script(words)), "setup_worker.py")
    os.execv(sys.executable, [sys.executable, setup, *words])  # noqa: S606 - as Ray itself would


def script(words: list[str]) -> str:
    """The path of ``default_worker.py``, behind flags."""
    return next(word for word in words if not word.startswith("-"))


def _is_forked(address: str, words: list[str]) -> bool:
    """False if it is not: the server refuses, or is another user's. Raises OSError if there is none."""
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        score = file.read().strip()
    request = {
        "words": words,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "blocked": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "score": score,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),  # Ray raises it
    }
    text = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(_PATIENCE)
        server.connect(address)
        theirs = server.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_CREDENTIALS))
        if struct.unpack(_CREDENTIALS, theirs)[1] != os.getuid():
            return False  # the environment has tokens in it
        socket.send_fds(server, [len(text).to_bytes(LENGTH, "big")], [0, 1, 2])
        server.sendall(text)
        return bool(server.recv(1))


if __name__ == "__main__":
    main(sys.argv[1:])
