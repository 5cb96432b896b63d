"""The cluster of RAY_ADDRESS, asked before Ray is: Ray waits for many minutes where nobody answers."""

from __future__ import annotations

import os
import socket
import threading
from typing import NamedTuple

from fairsynth.errors import InfrastructureError

# Ports of a head: of its own protocol, and of Ray Client's (ray://).
_PORTS = {"": 6379, "ray": 10001}
# To connect, to answer then, and for both together with the name's look-up.
_SECONDS, _ALL_SECONDS = 8.0, 20.0
# HTTP/2: the length of a frame's header, the type of settings, and how a client begins, with settings of its own.
_HEADER, _SETTINGS = 9, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])
OPEN = "RAY_AUTH_MODE is disabled: whoever reaches the cluster's ports can run code on it"
CLOSE = "start its nodes with a token (RAY_AUTH_MODE=token), or keep its network closed"
WAYS = "set RAY_ADDRESS to HOST:PORT of a running head, or unset it for a local Ray"


class Place(NamedTuple):
    """Where a head listens; ``port`` as it was given."""

    host: str
    port: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def place() -> Place | None:
    """Where RAY_ADDRESS says that the head listens, without a password; None if it names no place (``auto``, ``local``)."""
    scheme, _, rest = os.environ.get("RAY_ADDRESS", "").strip().rpartition("://")
    where = rest.rpartition("@")[2].partition("/")[0].partition("?")[0]
    if where in ("", "auto", "local") or scheme not in _PORTS:
        return None
    host, colon, port = where.rpartition(":")
    return Place(host, port) if colon else Place(port, str(_PORTS[scheme]))


def remark() -> str:
    """What to say before a run joins a cluster that asks nobody for a token; empty: nothing."""
    joins = os.environ.get("RAY_ADDRESS", "") not in ("", "local")
    return f"note: {OPEN}; {CLOSE}" if joins and os.environ.get("RAY_AUTH_MODE") == "disabled" else ""


def silence(there: Place) -> str:
    """Why no Ray answers there, after 20 seconds at most; empty if one does."""
    if not there.port.isdigit():
        return f"{there.port!r} is no port"
    said: list[str] = []
    # Names may take the system minutes.
    thread = threading.Thread(target=lambda: said.append(_silence(there)), daemon=True)
    thread.start()
    thread.join(_ALL_SECONDS)
    return said[0] if said else f"no answer within {_ALL_SECONDS:g} seconds"


def _silence(there: Place) -> str:
    try:
        with socket.create_connection((there.host.strip("[]"), int(there.port)), timeout=_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return ""
            return "" if _speaks(connection) else "what listens there does not answer as Ray does"
    except TimeoutError:
        return f"no answer within {_SECONDS:g} seconds"
    except (OSError, OverflowError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)


def _speaks(connection: socket.socket) -> bool:
    """Whether a server of HTTP/2 is there (RFC 9113, 3.4), as Ray's gRPC is: it answers a preface with its settings."""
    connection.sendall(_PREFACE)
    frame = b""
    while len(frame) < _HEADER:
        part = connection.recv(_HEADER - len(frame))
        if not part:
            return False
        frame += part
    return frame[3] == _SETTINGS


def check_address() -> None:
    """Raise InfrastructureError if RAY_ADDRESS names a place where nobody answers."""
    there = place()
    if there is not None and (why := silence(there)):
        raise InfrastructureError(
            f"cannot connect to {there} (RAY_ADDRESS): {why}; {WAYS} ('fairsynth doctor' checks a cluster)"
        )
