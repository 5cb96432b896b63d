"""A proxy before an HTTP service that fails as networks and services do: by chance with a seed, or as it is told.

Its ``url`` stands in the service's place. A request can be answered by 503, be cut off before it has reached the service or
after (the answer is lost, the work is done), have its answer cut in the middle, or be delayed.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fate = Literal["pass", "unavailable", "cut_before", "cut_after", "cut_during", "delay", "hang", "denied", "refused"]
_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass
class FaultProxy:
    """Faults by shares of 0 to 1, drawn one after the other from ``seed``; ``delay``: seconds.

    ``all``: every request's fate from now on. ``answer``: what "refused" answers, as status and code. ``conditions``: what
    becomes of If-Match and If-None-Match of a write: kept, left out, or answered by 501. ``happened`` counts fates.
    """

    upstream: str
    seed: int = 0
    unavailable: float = 0.0
    cut_before: float = 0.0
    cut_after: float = 0.0
    cut_during: float = 0.0
    delayed: float = 0.0
    delay: float = 2.0
    all: Fate | None = None
    answer: tuple[int, str] = (403, "AccessDenied")
    conditions: Literal["keep", "ignore", "501"] = "keep"
    next: list[Fate] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def __post_init__(self) -> None:
        self._random, self._lock = random.Random(self.seed), threading.Lock()

    def fate(self) -> Fate:
        """What becomes of the next request."""
        with self._lock:
            shares: list[tuple[Fate, float]] = [
                ("unavailable", self.unavailable), ("cut_before", self.cut_before), ("cut_after", self.cut_after),
                ("cut_during", self.cut_during), ("delay", self.delayed),
            ]  # fmt: skip
            drawn, found = self._random.random(), "pass"
            for name, share in shares:
                if 0 <= drawn < share:
                    found = name
                drawn -= share
            fate: Fate = self.all or (self.next.pop(0) if self.next else found)  # type: ignore[assignment]
            self.happened[fate] += 1
            return fate

    @contextmanager
    def running(self) -> Iterator[FaultProxy]:
        """Serve, with ``url`` set, until the end of the block."""
        handler = type("Handler", (_Handler,), {"proxy": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            socket = server.socket
            server.block_on_close = False
            server.server_close()
            socket.close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultProxy
    _upstream: http.client.HTTPConnection | None = None

    def do_GET(self) -> None:
        """Any request."""
        content, proxy = self._body(), self.proxy
        fate = proxy.fate()
        if fate == "hang":
            while proxy.all == "hang":
                time.sleep(0.05)
            return self._cut()
        if fate == "cut_before":
            return self._cut()
        if fate == "unavailable":
            return self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
        if fate in ("denied", "refused"):
            status, code = (403, "AccessDenied") if fate == "denied" else proxy.answer
            return self._answer(status, [], f"<Error><Code>{code}</Code></Error>".encode())
        if fate == "delay":
            time.sleep(proxy.delay)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        if self.command == "PUT" and proxy.conditions != "keep":
            conditions = [name for name in headers if name.lower() in ("if-match", "if-none-match")]
            if conditions and proxy.conditions == "501":
                return self._answer(501, [], b"<Error><Code>NotImplemented</Code></Error>")
            headers = {name: value for name, value in headers.items() if name not in conditions}
        status, answered, body = self._forward(headers, content)
        if fate == "cut_after":
            return self._cut()
        self._answer(status, answered, body, cut=fate == "cut_during")

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _forward(self, headers: dict[str, str], content: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        if self._upstream is None:
            self._upstream = http.client.HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=60)
        try:
            self._upstream.request(self.command, self.path, content, headers | {"Content-Length": str(len(content))})
            response = self._upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        except (OSError, http.client.HTTPException):  # the service ended an idle connection, or itself
            self._upstream.close()
            self._upstream = None
            return 502, [], b""

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
        length = next((value for name, value in headers if name.lower() == "content-length"), "")
        # The answer to HEAD tells the length of what it does not give.
        told = length if self.command == "HEAD" and length else str(len(content))
        lines = [f"{name}: {value}" for name, value in headers if name.lower() not in _HOP]
        head = "\r\n".join((f"HTTP/1.1 {status} -", *lines, f"Content-Length: {told}", "", "")).encode("latin-1")
        body = b"" if self.command == "HEAD" else content
        with suppress(OSError):
            self.wfile.write((head + body)[: (len(head) + len(body) // 2) if cut else None])
        if cut:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(2)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
