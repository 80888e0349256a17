"""A real HTTP server on loopback that serves one file well, or badly in the ways that servers do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is served, and how. Ask it afterwards what was asked of it.

    break_at: bytes of the body after which each of the first ``breaks`` connections is cut. down: the status of every
    answer once there are no more breaks.
    """

    content: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    break_at: int = 0
    breaks: int = 0
    down: int = 0
    redirect: bool = False
    asked: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/weights.pth"


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, server)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def answer(handler: BaseHTTPRequestHandler, server: FileServer) -> None:
    server.asked.append(handler.headers.get("Range", ""))
    server.paths.append(handler.path)
    if server.down and not server.breaks:
        handler.send_error(server.down)
        return
    if server.redirect and not handler.path.startswith("/elsewhere"):
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()
        return
    start = begin(handler, server)
    body = server.content[start:]
    if server.breaks:
        server.breaks -= 1
        body = body[: server.break_at]
    handler.wfile.write(body)


def begin(handler: BaseHTTPRequestHandler, server: FileServer) -> int:
    """Answer with headers; the first byte that is to follow."""
    size = len(server.content)
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    same = handler.headers.get("If-Range", server.etag) == server.etag
    start = int(wanted[1]) if wanted and server.ranges and same else 0
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(size - start))
    if server.etag:
        handler.send_header("ETag", server.etag)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    handler.end_headers()
    return start
