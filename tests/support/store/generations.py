"""As much of Google Cloud Storage's XML interface as objects and leases ask for: what differs from S3 are its generations.

No server of Google's interface with conditions installs from a package; this one follows its documentation
(https://cloud.google.com/storage/docs/xml-api/reference-headers#xgoogifgenerationmatch).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

# What the client sends in place of keys.
ENVIRONMENT = {"GOOGLE_BEARER_TOKEN": "of-no-use-elsewhere"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    objects: dict[str, tuple[bytes, int]]
    numbers: Iterator[int]
    lock: threading.Lock

    def do_GET(self) -> None:
        """An object, or a listing."""
        url = urlsplit(self.path)
        key = unquote(url.path).split("/", 2)[2:]
        if not key:
            return self._listing({name: values[0] for name, values in parse_qs(url.query, True).items()})
        with self.lock:
            found = self.objects.get(key[0])
        if found is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        self._answer(200, *found)

    def do_PUT(self) -> None:
        """An object, where its generation is the one that was named; 0 is that of none."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        key, wanted = unquote(self.path).split("/", 2)[2], self.headers.get("x-goog-if-generation-match")
        with self.lock:
            there = self.objects.get(key, (b"", 0))[1]
            if wanted is not None and int(wanted) != there:
                return self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            self.objects[key] = content, next(self.numbers)
            self._answer(200, b"", self.objects[key][1])

    def do_DELETE(self) -> None:
        """An object; that it is not there is an error, other than on S3."""
        with self.lock:
            gone = self.objects.pop(unquote(self.path).split("/", 2)[2], None)
        self._answer(204 if gone else 404, b"")

    def _listing(self, query: dict[str, str]) -> None:
        prefix, found = query.get("prefix", ""), dict[str, str]()
        with self.lock:
            sizes = {key: len(content) for key, (content, _) in self.objects.items()}
        for key in sorted(key for key in sizes if key.startswith(prefix) and key > query.get("start-after", "")):
            rest = key.removeprefix(prefix)
            if "delimiter" in query and "/" in rest:
                folder = escape(prefix + rest.split("/")[0] + "/")
                found[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
            else:
                found[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{sizes[key]}</Size>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        self._answer(200, f"<ListBucketResult>{''.join(found.values())}</ListBucketResult>".encode())

    def _answer(self, status: int, content: bytes, generation: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("ETag", '"the same for all: only generations tell contents apart"')
        self.send_header("x-goog-generation", str(generation))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def generations() -> Iterator[str]:
    """Serve one empty bucket; gives its address."""
    fields = {"objects": {}, "numbers": count(1000), "lock": threading.RLock()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), fields))
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"gs://bucket/out?endpoint_override=127.0.0.1:{server.server_address[1]}&scheme=http"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
