"""A desk that tells customers where their orders are: its logged episodes, and a server that answers as its model."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from json_server import JsonHandler, listening

SYSTEM = "You tell customers where their orders are. Look them up first."
RUNS = 16
WORDS = [a + b for a in ("ba", "ko", "mi", "ru", "sel", "tor") for b in ("nan", "dem", "lis", "pok", "ver", "zum")]
NOW = 1_790_000_000_000_000_000


def called(number: int, call_id: str) -> dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": "lookup", "arguments": json.dumps({"order": number})},
    }


def agent(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Looks the order up, then says where it is; where its prompt bids it so, politely."""
    if messages[-1]["role"] == "tool":
        thanks = "Thank you! " if "politely" in messages[0]["content"] else ""
        return {"role": "assistant", "content": f"{thanks}It is {messages[-1]['content']}."}
    number = int(messages[-1]["content"].rsplit(" ", 1)[1])
    return {"role": "assistant", "content": None, "tool_calls": [called(number, "mine")]}


@dataclass
class Served:
    url: str
    answering: Callable[[list[dict[str, Any]]], dict[str, Any]] = agent
    asked: list[list[dict[str, Any]]] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Served]:
    class Handler(JsonHandler):
        def post(self, body: Any) -> None:
            state.asked.append(body["messages"])
            choice = {"index": 0, "finish_reason": "stop", "message": state.answering(body["messages"])}
            usage = {"prompt_tokens": 20, "completion_tokens": 5}
            self.reply(200, {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})

    with listening(Handler) as url:
        state = Served(url=f"{url}/v1")
        yield state


def question(number: int) -> str:
    """Worded so differently that each is a task of its own."""
    return " ".join(random.Random(number).sample(WORDS, 9))


def _parts(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        part = {"type": "tool_call_response", "id": message["tool_call_id"], "response": message["content"]}
        return {"role": "tool", "parts": [part]}
    parts: list[dict[str, Any]] = [{"type": "text", "content": message["content"]}] if message["content"] else []
    for call in message.get("tool_calls", ()):
        named = call["function"]
        parts.append({"type": "tool_call", "id": call["id"], "name": named["name"], "arguments": named["arguments"]})
    return {"role": message["role"], "parts": parts}


def trace(number: int) -> dict[str, Any]:
    """An order's episode: a call that looks it up, and one that answers."""
    asked = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{question(number)} order {number}"}]
    looked = {"role": "assistant", "content": None, "tool_calls": [called(number, f"c{number}")]}
    found = {"role": "tool", "tool_call_id": f"c{number}", "content": f"in depot {number}"}
    told = {"role": "assistant", "content": f"Depot {number}."}
    spans = []
    for step, (sent, said) in enumerate(((asked, looked), ([*asked, looked, found], told))):
        begin = NOW + number * 10**9 + step * 10**6
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.agent.name": "orders",
            "gen_ai.request.model": "toy",
            "gen_ai.input.messages": json.dumps([_parts(message) for message in sent]),
            "gen_ai.output.messages": json.dumps([{**_parts(said), "finish_reason": "stop"}]),
        }
        spans.append(
            {
                "traceId": f"{number + 1:032x}",
                "spanId": f"{number * 10 + step + 1:016x}",
                "name": "chat toy",
                "startTimeUnixNano": str(begin),
                "endTimeUnixNano": str(begin + 10**5),
                "attributes": [{"key": key, "value": {"stringValue": text}} for key, text in attributes.items()],
            }
        )
    return {
        "resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "x"}, "spans": spans}]}]
    }


def note(number: int) -> dict[str, Any]:
    """An episode of one call: a greeter's."""
    whole = trace(number)
    (scope,) = whole["resourceSpans"][0]["scopeSpans"]
    sent = [{"role": "system", "content": "You greet customers."}, {"role": "user", "content": question(number)}]
    texts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.agent.name": "greeter",
        "gen_ai.request.model": "toy",
        "gen_ai.input.messages": json.dumps([_parts(message) for message in sent]),
        "gen_ai.output.messages": json.dumps([_parts({"role": "assistant", "content": "Hm."})]),
    }
    attributes = [{"key": key, "value": {"stringValue": text}} for key, text in texts.items()]
    scope["spans"] = [{**scope["spans"][0], "attributes": attributes}]
    return whole


SETTINGS: dict[str, Any] = {
    "rewards": [{"kind": "regex", "name": "polite", "pattern": "Thank you"}],
    "optimize": {"ladder": ["lint", "single_step", "recorded"], "optimizers": [], "headroom": False},
    "train": {"min_rows": 4},
}
