"""Agents at work: the spans of one turn, as an instrumented agent sends them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from corpus.text import ENCODE, PLANTED, Writer

SECOND = 1_000_000_000
TOOLS = (
    ("lookup_order", "Finds an order by its number and says where it is.", "order_id"),
    ("search_docs", "Searches the handbook and gives the best passages.", "query"),
    ("run_sql", "Runs a read-only query on the reporting database.", "statement"),
    ("send_mail", "Sends a mail to the customer of the ticket.", "to"),
    ("refund", "Refunds an amount of an order, up to the agent's limit.", "amount"),
    ("read_file", "Gives the lines of a file of the workspace.", "path"),
)
MODELS = (
    ("openai", "gpt-5.2", "gpt-5.2-2026-04-14", 1.25e-6, 1e-5),
    ("openai", "gpt-5.2-mini", "gpt-5.2-mini-2026-04-14", 2.5e-7, 2e-6),
    ("anthropic", "claude-sonnet-5", "claude-sonnet-5-20260301", 3e-6, 1.5e-5),
    ("gcp.gemini", "gemini-3.5-flash", "gemini-3.5-flash", 3e-7, 2.5e-6),
)
SERVICES = ("support-desk", "billing-bot", "travel-planner", "code-helper", "report-writer")
ERRORS = (
    ("TimeoutError", "the upstream did not answer within 30 s"),
    ("ConnectionError", "connection reset by peer"),
    ("ValueError", "no such record"),
    ("PermissionError", "the caller may not read this table"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """What stays the same in all its calls."""

    name: str
    service: str
    version: str
    system: str
    instructions: str
    definitions: str
    model: tuple[str, str, str, float, float]
    resource: bytes
    """Of its service, as JSON."""


def _json(value: Any) -> str:
    return ENCODE(value).decode()


def _attribute(key: str, value: Any) -> dict[str, Any]:
    """One attribute as the Collector's marshaler writes it: integers as text."""
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    if isinstance(value, list):
        return {"key": key, "value": {"arrayValue": {"values": [{"stringValue": item} for item in value]}}}
    return {"key": key, "value": {"stringValue": value}}


def _span(
    ids: tuple[str, str, str],
    name: str,
    kind: int,
    times: tuple[int, int],
    attributes: dict[str, Any],
    *,
    error: tuple[str, str] | None = None,
    events: tuple[tuple[str, dict[str, Any]], ...] = (),
) -> bytes:
    trace, span, parent = ids
    if error is not None:
        attributes["error.type"] = error[0]
        events = (*events, ("exception", {"exception.type": error[0], "exception.message": error[1]}))
    document: dict[str, Any] = {
        "traceId": trace,
        "spanId": span,
        "parentSpanId": parent,
        "flags": 256,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(times[0]),
        "endTimeUnixNano": str(times[1]),
        "attributes": [_attribute(key, value) for key, value in attributes.items()],
    }
    if events:
        document["events"] = [
            {
                "timeUnixNano": str(times[1]),
                "name": event,
                "attributes": [_attribute(key, value) for key, value in said.items()],
            }
            for event, said in events
        ]
    document["status"] = {} if error is None else {"message": error[1], "code": 2}
    return ENCODE(document)


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "content": text}


def _definitions(tools: Sequence[tuple[str, str, str]]) -> str:
    return _json(
        [
            {
                "type": "function",
                "name": name,
                "description": what,
                "parameters": {"type": "object", "properties": {one: {"type": "string"}}, "required": [one]},
            }
            for name, what, one in tools
        ]
    )


def _resource(service: str, host: str) -> bytes:
    said = {
        "service.name": service,
        "service.version": "2026.7.1",
        "deployment.environment.name": "production",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": "1.38.0",
        "host.name": f"{service}-{host}",
    }
    return ENCODE({"attributes": [_attribute(key, value) for key, value in said.items()]})


def agents_of(writer: Writer, system_chars: int, tools: int, per_service: int = 3) -> list[Agent]:
    """The agents of all services, with system prompts of about so many characters and so many tools each."""
    agents = []
    for place, service in enumerate(SERVICES):
        resource = _resource(service, writer.id(3))
        for number in range(per_service):
            constant = writer.text(system_chars).replace(f"@{PLANTED}", " at the desk")
            system = f"You are the {service} assistant number {number}. {constant}"
            agents.append(
                Agent(
                    name=f"{service.split('-')[0]}-{('router', 'solver', 'reviewer')[number % 3]}",
                    service=service,
                    version=f"1.{number}",
                    system=system,
                    instructions=_json([_text(system)]),
                    definitions=_definitions(TOOLS[:tools]),
                    model=MODELS[(place + number) % len(MODELS)],
                    resource=resource,
                )
            )
    return agents


@dataclass(slots=True, kw_only=True)
class Session:
    """A conversation that goes on: who, and what was said so far."""

    agent: Agent
    key: str
    user: str
    history: list[bytes]
    """Messages as JSON, so that repeating them costs no encoding."""
    turns: int = 0

    def said(self, role: str, *parts: dict[str, Any]) -> None:
        self.history.append(ENCODE({"role": role, "parts": parts}))


@dataclass(slots=True, kw_only=True)
class Turn:
    """One trace while it is made."""

    session: Session
    trace: str
    root: str
    began: int
    now: int
    question: str
    answer: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    failed: tuple[str, str] | None = None

    @property
    def common(self) -> dict[str, Any]:
        agent = self.session.agent
        return {
            "gen_ai.agent.name": agent.name,
            "gen_ai.conversation.id": self.session.key,
            "user.id": self.session.user,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Makes turns with so many tools; texts have about so many characters."""

    writer: Writer
    tools: int
    question: int
    aside: int
    tool: int
    answer: int

    def run(self, session: Session, now: int, calls: int) -> Iterator[bytes]:
        """One trace, span by span in the order of their ends: a user's turn, `calls` model calls, tools in between."""
        writer = self.writer
        question = writer.text(self._chars(self.question))
        turn = Turn(session=session, trace=writer.id(16), root=writer.id(8), began=now, now=now, question=question)
        session.said("user", _text(question))
        for left in reversed(range(calls)):
            wanted = self._tool_call() if left else None
            yield self._call(turn, wanted)
            if turn.failed is not None:
                break
            if wanted is not None:
                yield self._execute(turn, wanted)
        session.turns += 1
        yield self._root(turn)

    def _chars(self, mean: int) -> int:
        return int(mean * self.writer.random.uniform(0.4, 1.6))

    def _spend(self, turn: Turn, spent: int) -> tuple[int, int]:
        times = (turn.now, turn.now + spent)
        turn.now += spent + self.writer.random.randrange(SECOND // 20)
        return times

    def _tool_call(self) -> dict[str, Any]:
        name, _, parameter = self.writer.random.choice(TOOLS[: self.tools])
        arguments = {parameter: self.writer.text(40)}
        return {"type": "tool_call", "id": f"call_{self.writer.id(12)}", "name": name, "arguments": arguments}

    def _call(self, turn: Turn, wanted: dict[str, Any] | None) -> bytes:
        """A model call that asks for the tool `wanted`, or gives the turn's answer."""
        writer, session, agent = self.writer, turn.session, turn.session.agent
        draw = writer.random
        prompt = b"[" + b",".join(session.history) + b"]"
        if wanted is None:
            turn.answer = writer.text(self._chars(self.answer))
        parts = [_text(turn.answer or "")] if wanted is None else [_text(writer.text(self._chars(self.aside))), wanted]
        reason = "stop" if wanted is None else "tool_calls"
        output = _json([{"role": "assistant", "parts": parts, "finish_reason": reason}])
        turn.failed = ERRORS[0] if draw.random() < 0.01 else None
        used_in, used_out = (len(agent.system) + len(prompt)) // 4, len(output) // 4
        turn.tokens_in, turn.tokens_out = turn.tokens_in + used_in, turn.tokens_out + used_out
        provider, model, answered, price_in, price_out = agent.model
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.request.temperature": 0.2,
            **turn.common,
            "gen_ai.system_instructions": agent.instructions,
            "gen_ai.input.messages": prompt.decode(),
            "gen_ai.tool.definitions": agent.definitions,
            "server.address": f"api.{provider}.com",
        }
        if turn.failed is None:
            attributes |= {
                "gen_ai.output.messages": output,
                "gen_ai.response.model": answered,
                "gen_ai.response.id": f"chatcmpl-{writer.id(15)}",
                "gen_ai.response.finish_reasons": [reason],
                "gen_ai.usage.input_tokens": used_in,
                "gen_ai.usage.output_tokens": used_out,
                "gen_ai.usage.cost": used_in * price_in + used_out * price_out,
            }
            session.said("assistant", *parts)
        times = self._spend(turn, SECOND // 2 + used_out * 12_000_000 + draw.randrange(SECOND))
        ids = (turn.trace, writer.id(8), turn.root)
        return _span(ids, f"chat {model}", 3, times, attributes, error=turn.failed)

    def _execute(self, turn: Turn, wanted: dict[str, Any]) -> bytes:
        writer, agent = self.writer, turn.session.agent
        broken = writer.random.choice(ERRORS) if writer.random.random() < 0.04 else None
        result = writer.rows(self._chars(self.tool)) if broken is None else None
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": wanted["name"],
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": wanted["id"],
            "gen_ai.tool.call.arguments": _json(wanted["arguments"]),
            **turn.common,
            "code.function.name": f"{agent.service.replace('-', '_')}.tools.{wanted['name']}",
        }
        if result is not None:
            attributes["gen_ai.tool.call.result"] = result
        said = result if broken is None else broken[1]
        turn.session.said("tool", {"type": "tool_call_response", "id": wanted["id"], "response": said})
        times = self._spend(turn, writer.random.randrange(SECOND // 50, 3 * SECOND))
        ids = (turn.trace, writer.id(8), turn.root)
        return _span(ids, f"execute_tool {wanted['name']}", 1, times, attributes, error=broken)

    def _root(self, turn: Turn) -> bytes:
        agent, draw = turn.session.agent, self.writer.random
        events: tuple[tuple[str, dict[str, Any]], ...] = ()
        if draw.random() < 0.1:
            judged = {"gen_ai.evaluation.name": "helpfulness", "gen_ai.evaluation.score.value": draw.randrange(5) / 4}
            events = (("gen_ai.evaluation.result", judged),)
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": agent.model[0],
            "gen_ai.agent.version": agent.version,
            **turn.common,
            "gen_ai.usage.input_tokens": turn.tokens_in,
            "gen_ai.usage.output_tokens": turn.tokens_out,
            "gen_ai.input.messages": _json([{"role": "user", "parts": [_text(turn.question)]}]),
            "url.path": f"/v1/{agent.service}/turn",
            "client.address": f"10.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(1, 255)}",
        }
        if turn.answer is not None:
            attributes["gen_ai.output.messages"] = _json([{"role": "assistant", "parts": [_text(turn.answer)]}])
        times = (turn.began, turn.now)
        ids = (turn.trace, turn.root, "")
        return _span(ids, f"invoke_agent {agent.name}", 1, times, attributes, error=turn.failed, events=events)
