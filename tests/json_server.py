"""What the servers of tests share: JSON in, JSON out, in a thread, quietly."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JsonHandler(BaseHTTPRequestHandler):
    wbufsize = -1
    """Head and body of an answer in one packet."""

    def do_POST(self) -> None:
        self.post(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def do_GET(self) -> None:
        self.get()

    def post(self, body: Any) -> None:
        """Answers to JSON that was sent."""
        self.reply(501, {})

    def get(self) -> None:
        self.reply(501, {})

    def reply(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Answers with the JSON of `body`; with a text as it is."""
        raw = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class _Http(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL that is served for the length of the block."""
    http = _Http(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
