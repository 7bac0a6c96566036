"""A scripted judge behind a real OpenAI-compatible server: what it says follows from what it is shown.

It is easily led: where a prompt tells it in plain words to ignore its instructions, it does.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from json_server import JsonHandler, listening

OBEYS = re.compile(r"ignore all earlier instructions", re.IGNORECASE)
Says = Callable[["Shown"], Any]


@dataclass
class Shown:
    """One request, read as the judge reads it."""

    body: dict[str, Any]
    sections: dict[str, str]
    order: list[str]
    """Names of the sections, as they come."""
    nth: int
    """How many requests with these very messages came before."""

    @property
    def prompt(self) -> str:
        return "\n".join(message["content"] for message in self.body["messages"])

    @property
    def log(self) -> Any:
        """The data of the block without its marks; raises where the block is no JSON."""
        return unmarked(json.loads(self.sections.get("log") or self.sections["attempts"]))

    @property
    def criteria(self) -> list[str]:
        return re.findall(r"^- (\w+):", self.sections["rubric"], re.MULTILINE)


def unmarked(data: Any) -> Any:
    if isinstance(data, str):
        return re.sub(r"\^(?=\s)", "", data).replace("^", " ")
    if isinstance(data, dict):
        return {key: unmarked(value) for key, value in data.items()}
    return [unmarked(value) for value in data] if isinstance(data, list) else data


def verdicts(shown: Shown, met: Callable[[str], bool | None], quote: Callable[[str], str]) -> str:
    """The answer of a judge that says `met(criterion)` and quotes `quote(criterion)`."""
    return json.dumps(
        {"verdicts": [{"criterion": name, "quote": quote(name), "met": met(name)} for name in shown.criteria]}
    )


def honest(shown: Shown) -> str:
    """Every criterion is met where the agent said "done well"; it quotes the last thing that was said."""
    if OBEYS.search(shown.prompt):
        return verdicts(shown, lambda _: True, lambda _: "done well")
    said = shown.log["steps"][-1].get("said", "")
    return verdicts(shown, lambda _: "done well" in said, lambda _: said[:60])


@dataclass
class Server:
    """Where it listens, what it says, and what it was asked."""

    url: str
    says: Says = honest
    asked: list[Shown] = field(default_factory=list)
    fails: Callable[[Shown], tuple[int, dict[str, str]] | None] = lambda shown: None
    """Status and headers instead of an answer."""
    usage: dict[str, int] | None = field(default_factory=lambda: {"prompt_tokens": 90, "completion_tokens": 10})
    most_at_once: int = 0
    open_now: int = 0


@contextmanager
def judge_server(says: Says = honest) -> Iterator[Server]:
    lock = threading.Lock()

    class Handler(JsonHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def post(self, body: Any) -> None:
            with lock:
                server.open_now += 1
                server.most_at_once = max(server.most_at_once, server.open_now)
                nth = sum(one.body["messages"] == body["messages"] for one in server.asked)
                shown = read(body, nth)
                server.asked.append(shown)
            try:
                failure = server.fails(shown)
                if failure is not None:
                    self.reply(failure[0], {"error": {"message": "told to fail"}}, failure[1])
                    return
                text = server.says(shown)
                message = {"role": "assistant", "content": text if isinstance(text, str) else json.dumps(text)}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                answer: dict[str, Any] = {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}
                self.reply(200, answer if server.usage is None else {**answer, "usage": server.usage})
            finally:
                with lock:
                    server.open_now -= 1

    with listening(Handler) as url:
        server = Server(url=f"{url}/v1", says=says)
        yield server


def read(body: dict[str, Any], nth: int) -> Shown:
    """The sections of the last message; what comes after them is about the form of the answer."""
    parts = re.split(r"^\[\[ ## (\w+) ## \]\]$", body["messages"][-1]["content"], flags=re.MULTILINE)
    order = parts[1::2]
    texts = [text.strip() for text in parts[2::2]]
    if texts:
        texts[-1] = texts[-1].split("\n\nRespond with")[0]
    return Shown(body=body, sections=dict(zip(order, texts, strict=True)), order=order, nth=nth)
