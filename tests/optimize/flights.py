"""A toy agent that looks for a flight, books it and says so: its logged episodes, and models that replay it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from tracemill.optimize.artifact import baseline
from tracemill.records import Case, ChatMessage, ChatRequest, Completion, Episode, LoggedCall, Site, Template

SITE = Site(
    site_id="desk",
    site_version="v1",
    agent_name="desk",
    model="m",
    template=Template(messages=({"role": "system", "content": ["You book flights."]}, {"conversation": True})),
)
BASE = baseline(SITE)
Call = tuple[str, Any]
"""A tool's name, and its arguments as text or as a value."""


def tool_call(number: int, call: Call) -> dict[str, Any]:
    name, arguments = call
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": text}}


def calling(*calls: Call, first: int = 0) -> ChatMessage:
    tools = [tool_call(first + at, call) for at, call in enumerate(calls)]
    return {"role": "assistant", "content": None, "tool_calls": tools}


def saying(text: str) -> ChatMessage:
    return {"role": "assistant", "content": text}


def result(number: int, text: str) -> ChatMessage:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": text}


def user(text: str) -> ChatMessage:
    return {"role": "user", "content": text}


FIND: Call = ("find", {"from": "BER", "to": "OSL"})
BOOK: Call = ("book", {"flight": 7, "bags": 1})
BOOKED: tuple[ChatMessage, ...] = (
    user("Oslo, please"),
    calling(FIND),
    result(0, "flight 7"),
    calling(BOOK, first=1),
    result(1, "booked"),
    saying("Flight 7 is booked."),
)


def episode(talk: Sequence[ChatMessage] = BOOKED, name: str = "t") -> Episode:
    """A whole conversation as calls, one for each thing that the assistant says."""
    calls = [
        LoggedCall(step=step, values={"conversation": list(talk[:at])}, answer=(talk[at],))
        for step, at in enumerate(at for at, message in enumerate(talk) if message["role"] == "assistant")
    ]
    return Episode(trajectory_id=name, calls=tuple(calls))


def case(name: str = "t", *, step: int = 2, steps: int = 3, **more: Any) -> Case:
    known: dict[str, Any] = {
        "case_id": f"{name}/{step}",
        "trajectory_id": name,
        "step": step,
        "steps": steps,
        "site_id": "desk",
        "task_key": None,
        "task_group": f"g-{name}",
        "pool": "learn",
        "values": {},
        "logged_messages": (),
        "logged_output": "",
        "reward": None,
    }
    return Case(**{**known, **more})


def answer(message: ChatMessage) -> Completion:
    return Completion(
        text=message["content"],
        tool_calls=tuple(message.get("tool_calls") or ()),
        tokens_in=10,
        tokens_out=1,
        cost_usd=0.5,
        latency_ns=3,
    )


class Scripted:
    """Gives the nth answer of its script to a conversation in which the assistant spoke n times."""

    def __init__(self, *script: ChatMessage, by_user: Callable[[str], Sequence[ChatMessage]] | None = None) -> None:
        self.script = script
        self.by_user = by_user
        self.asked: list[ChatRequest] = []

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        return [self._one(request) for request in requests]

    def _one(self, request: ChatRequest) -> Completion:
        self.asked.append(request)
        said = [message for message in request.messages if message["role"] == "assistant"]
        script = self.script if self.by_user is None else self.by_user(request.messages[1]["content"])
        return answer(script[len(said)])
