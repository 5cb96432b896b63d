"""Who holds an output, as its lock or lease names them."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple


class Owner(NamedTuple):
    """The process that wrote its name into the lock; ``since``: seconds since 1970."""

    pid: int
    host: str
    since: float

    @property
    def alive(self) -> bool | None:
        """Whether the process is there; None if it is one of another host."""
        return _alive(self.pid) if self.host == socket.gethostname() else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
