"""A server in a thread that speaks OpenAI's API by a script."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "  Looks – where?\n",
            "parameters": {"type": "object", "properties": {"at": {"type": "string", "description": "A place."}}},
            "strict": True,
        },
    },
)


def answer_of(text, **choice):
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2},
    }


@contextmanager
def server(script):
    """`script(body, nth) -> (status, headers, JSON or text)` answers the nth request with this prompt."""
    seen, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                nth = sum(one["body"]["messages"] == body["messages"] for one in seen)
                seen.append({"body": body, "path": self.path, "auth": self.headers.get("Authorization")})
            status, headers, reply = script(body, nth)
            if status is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            raw = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args):
            """Quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", seen
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def echo(body, nth):
    return 200, {}, answer_of(body["messages"][-1]["content"].upper())
