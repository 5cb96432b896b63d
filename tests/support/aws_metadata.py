"""A stand-in for AWS's instance metadata service, version 2, as its documentation describes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Metadata(BaseHTTPRequestHandler):
    """The instance metadata service, as AWS documents it: a token first, then 404, and one day the notice."""

    answers: list[tuple[int, str]]
    """Status and content of each look; the last one for ever."""
    looks: int

    def do_PUT(self) -> None:
        right = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
        self._say(200 if right else 400, "secret")

    def do_GET(self) -> None:
        server = type(self)
        if (
            self.path != "/latest/meta-data/spot/instance-action"
            or self.headers["X-aws-ec2-metadata-token"] != "secret"
        ):
            self._say(401, "")
            return
        status, content = server.answers[min(server.looks, len(server.answers) - 1)]
        server.looks += 1
        self._say(status, content)

    def _say(self, status: int, content: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def metadata(*answers: tuple[int, str]) -> Iterator[str]:
    """The service's address."""
    handler = type("Handler", (Metadata,), {"answers": list(answers), "looks": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def notice_in(seconds: float) -> tuple[int, str]:
    """A notice of an end in so many seconds."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    return 200, f'{{"action": "terminate", "time": "{end:%Y-%m-%dT%H:%M:%SZ}"}}'
