"""A read-only S3 service on this machine, as much of it as pyarrow's filesystem asks for.

It lists, describes and gives out the files of a folder, in parts where parts are asked for. The tests that
use it also pass against moto, which cannot be installed beside this project's exact versions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
_PAGE = 5  # small, so that listings have several pages


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of objects, and ListObjectsV2."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    root: Path
    writes: list[str]

    def do_GET(self) -> None:
        """An object, part of one, or a listing."""
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix(f"/{BUCKET}").lstrip("/")
        if not key:
            return self._listing({name: values[0] for name, values in parse_qs(url.query, True).items()})
        path = self.root / key
        if not path.is_file():
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        content, asked = path.read_bytes(), self.headers.get("Range")
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            return self._answer(
                206, content[int(first) : int(last) + 1], content_range=f"bytes {first}-{last}/{len(content)}"
            )
        return self._answer(200, content)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        """Nobody may write; that it was tried is remembered."""
        self.writes.append(f"{self.command} {self.path}")
        self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")

    do_POST = do_DELETE = do_PUT

    def _listing(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys = sorted(p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())
        found: dict[str, str] = {}
        for key in (key for key in keys if key.startswith(prefix)):
            rest = key.removeprefix(prefix)
            if delimiter and delimiter in rest:
                common = prefix + rest.split(delimiter)[0] + delimiter
                found[common] = f"<CommonPrefixes><Prefix>{escape(common)}</Prefix></CommonPrefixes>"
            else:
                size = (self.root / key).stat().st_size
                found[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        names = sorted(name for name in found if name > query.get("continuation-token", ""))
        page = names[: min(_PAGE, int(query.get("max-keys", _PAGE)))]
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(page) < len(names) else ""
        body = "".join(found[name] for name in page)
        text = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{body}</ListBucketResult>"
        )
        self._answer(200, text.encode())

    def _answer(self, status: int, content: bytes, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def object_store(folder: Path, writes: list[str] | None = None) -> Iterator[str]:
    """Serve a folder as a bucket; gives the query that pyarrow's URIs need. ``writes`` gets what tried to write."""
    handler = type("Handler", (_Handler,), {"root": folder, "writes": [] if writes is None else writes})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"endpoint_override=127.0.0.1:{server.server_address[1]}&scheme=http&region=us-east-1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
