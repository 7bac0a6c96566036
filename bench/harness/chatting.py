"""What scripted models of benchmarks share: they answer behind OpenAI's chat API on this machine."""

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[Mapping[str, Any]], tuple[str, int, int]]
"""From a request's body to the text of the answer, and the tokens of both."""


def chatting(answer: Answer, port: int = 0) -> ThreadingHTTPServer:
    """A server that answers so once it serves; at port 0 at any that is free."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        """Head and body of an answer in one packet."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text, sent, written = answer(body)
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            usage = {"prompt_tokens": sent, "completion_tokens": written}
            reply = {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
            raw = json.dumps({"id": "scripted", **reply}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
