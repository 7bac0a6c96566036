"""A server in a thread that speaks OpenAI's API by a script."""

import socket
import threading
from contextlib import contextmanager

from json_server import JsonHandler, listening

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

    class Handler(JsonHandler):
        def post(self, body):
            with lock:
                nth = sum(one["body"]["messages"] == body["messages"] for one in seen)
                seen.append({"body": body, "path": self.path, "auth": self.headers.get("Authorization")})
            status, headers, reply = script(body, nth)
            if status is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.reply(status, reply, headers)

    with listening(Handler) as url:
        yield url, seen


def echo(body, nth):
    return 200, {}, answer_of(body["messages"][-1]["content"].upper())
