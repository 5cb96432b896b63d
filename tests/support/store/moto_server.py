"""moto's S3 service on a free port of this machine, which it prints; s3_server.py runs it with the Python that has moto.

moto looks whether an object is there and writes it afterwards: two requests at once could both be the first. Real services
decide that in one step, so requests are let in one at a time here; their bodies are read before.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

_MOTO = DomainDispatcherApplication(create_backend_app)
_ONE = threading.Lock()


def one_at_a_time(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """moto's application, for one request after the other."""
    given = environ["wsgi.input"]
    length = environ.get("CONTENT_LENGTH")
    content = given.read() if environ.get("wsgi.input_terminated") and not length else given.read(int(length or 0))
    environ["wsgi.input"] = BytesIO(content)
    with _ONE:
        return [b"".join(_MOTO(environ, start_response))]


class _Silent(MotoRequestHandler):  # type: ignore[misc]
    disable_nagle_algorithm = True

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing."""


def _end_with_the_tests() -> None:
    """Its input ends when the process that started it does, however that comes."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=_Silent)
    print(server.server_port, flush=True)
    server.serve_forever()
