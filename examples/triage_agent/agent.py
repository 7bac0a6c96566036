"""A support desk's triage agent: reads a ticket, asks a model for its queue, and routes it there.

    python agent.py --tickets tickets.jsonl --prompt prompt.json --out desk.jsonl --workers 8

An ordinary program, instrumented with OpenTelemetry's GenAI conventions. The endpoint is OPENAI_BASE_URL; spans go to
OTEL_EXPORTER_OTLP_ENDPOINT. `--prompt` is a prompt file, or a folder or URL whose `channel.json` names the current one.
"""

import argparse
import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openai import OpenAI, OpenAIError
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

AGENT = "triage"
QUEUES = ("billing", "shipping", "returns", "account", "technical")
Messages = list[Any]  # OpenAI chat messages


class UnknownQueueError(ValueError):
    """The desk has no queue of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    session_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """What became of a ticket. `queue` is None where it could not be routed and waits for a person."""

    session_id: str
    queue: str | None
    error: str | None = None


# --- the published prompt -------------------------------------------------------------------------------------------


def read_prompt(location: str) -> dict[str, Any]:
    """The prompt at a file or URL, or the one that the `channel.json` of a folder or URL names."""
    is_url = location.startswith(("http://", "https://"))
    if location.endswith(".json"):
        return dict(json.loads(_read(location, is_url)))
    base = location.rstrip("/")
    pointer = json.loads(_read(f"{base}/channel.json", is_url))
    return dict(json.loads(_read(f"{base}/{pointer['prompt']}", is_url)))


def _read(location: str, is_url: bool) -> str:
    if not is_url:
        return Path(location).read_text(encoding="utf-8")
    with urllib.request.urlopen(location, timeout=10) as answer:
        return str(answer.read().decode("utf-8"))


def chat_messages(prompt: Mapping[str, Any], ticket: str) -> Messages:
    """The messages to send for a ticket: the prompt's demonstrations in place, its slots filled with the ticket."""
    messages: Messages = []
    for item in prompt["messages"]:
        if item.get("demonstrations"):
            for demonstration in _chosen(prompt.get("demonstrations") or {}, ticket):
                messages += demonstration["messages"]
        else:
            # whatever a slot is called, the ticket is all that this agent has to fill in
            text = "".join(piece if isinstance(piece, str) else ticket for piece in item["content"])
            messages.append({"role": item["role"], "content": text})
    return messages


def _chosen(demonstrations: Mapping[str, Any], ticket: str) -> Sequence[Mapping[str, Any]]:
    pool = demonstrations.get("pool", [])
    if demonstrations.get("select") != "nearest":
        return list(pool)
    words = _words(ticket)

    def overlap(demonstration: Mapping[str, Any]) -> float:
        other = _words(demonstration["text"])
        return len(words & other) / (len(words | other) or 1)

    # most similar last, next to the question
    return sorted(pool, key=overlap, reverse=True)[: demonstrations["k"]][::-1]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


# --- the agent ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    prompt: Mapping[str, Any]
    client: OpenAI
    tracer: Tracer
    model: str
    version: str | None = None
    """Written on every span, so that whoever reads the logs can tell deployments apart."""

    def handle(self, ticket: Ticket) -> Routed:
        """Routes one ticket: a model call, then a tool call. Never raises for a bad answer or a dead endpoint."""
        with self.tracer.start_as_current_span(f"invoke_agent {AGENT}") as span:
            span.set_attributes(self._names("invoke_agent", ticket))
            try:
                queue = self.route_ticket(self.ask(ticket), ticket)
            except (UnknownQueueError, OpenAIError) as error:
                _failed(span, error)
                return Routed(session_id=ticket.session_id, queue=None, error=str(error))
            return Routed(session_id=ticket.session_id, queue=queue)

    def ask(self, ticket: Ticket) -> str:
        """The model's answer to a ticket. Raises OpenAIError."""
        messages = chat_messages(self.prompt, ticket.text)
        params = dict(self.prompt.get("params") or {})
        with self.tracer.start_as_current_span(f"chat {self.model}", kind=SpanKind.CLIENT) as span:
            span.set_attributes(self._names("chat", ticket))
            span.set_attributes({f"gen_ai.request.{name}": value for name, value in params.items()})
            span.set_attribute("gen_ai.provider.name", "openai")
            span.set_attribute("gen_ai.request.model", self.model)
            span.set_attribute("gen_ai.input.messages", json.dumps([_parts(**message) for message in messages]))
            answer = self.client.chat.completions.create(
                model=self.model, messages=messages, logprobs=True, extra_body={"return_token_ids": True}, **params
            )  # fmt: skip
            choice = answer.choices[0]
            text = choice.message.content or ""
            reply = {**_parts("assistant", text), "finish_reason": choice.finish_reason}
            span.set_attribute("gen_ai.output.messages", json.dumps([reply]))
            span.set_attribute("gen_ai.response.id", answer.id)
            span.set_attribute("gen_ai.response.model", answer.model)
            span.set_attribute("gen_ai.response.finish_reasons", [choice.finish_reason])
            if answer.usage is not None:
                span.set_attribute("gen_ai.usage.input_tokens", answer.usage.prompt_tokens)
                span.set_attribute("gen_ai.usage.output_tokens", answer.usage.completion_tokens)
            # beyond the conventions: what the model read and wrote, token by token; only some servers tell
            prompt_ids = (answer.model_extra or {}).get("prompt_token_ids")
            response_ids = (choice.model_extra or {}).get("token_ids")
            if prompt_ids and response_ids:
                span.set_attribute("prompt_token_ids", prompt_ids)
                span.set_attribute("response_token_ids", response_ids)
            if choice.logprobs is not None and choice.logprobs.content:
                span.set_attribute("response_logprobs", [token.logprob for token in choice.logprobs.content])
            return text

    def route_ticket(self, answer: str, ticket: Ticket) -> str:
        """The tool: puts a ticket into the queue that the answer names. Raises UnknownQueueError."""
        with self.tracer.start_as_current_span("execute_tool route_ticket", record_exception=False) as span:
            span.set_attributes(self._names("execute_tool", ticket))
            span.set_attribute("gen_ai.tool.name", "route_ticket")
            span.set_attribute("gen_ai.tool.type", "function")
            span.set_attribute("gen_ai.tool.call.id", f"route-{ticket.session_id}")
            span.set_attribute("gen_ai.tool.call.arguments", json.dumps({"queue": answer}))
            queue = answer.strip()
            if queue not in QUEUES:
                error = UnknownQueueError(f"no queue {queue!r}; the desk has {', '.join(QUEUES)}")
                _failed(span, error)
                raise error
            span.set_attribute("gen_ai.tool.call.result", json.dumps({"routed_to": queue}))
            return queue

    def _names(self, operation: str, ticket: Ticket) -> dict[str, str]:
        names = {
            "gen_ai.operation.name": operation,
            "gen_ai.agent.name": AGENT,
            "gen_ai.conversation.id": ticket.session_id,
        }
        return names if self.version is None else {**names, "gen_ai.agent.version": self.version}


def _parts(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def _failed(span: Span, error: Exception) -> None:
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, str(error)))


# --- the day's work -------------------------------------------------------------------------------------------------


def read_tickets(path: Path) -> list[Ticket]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [Ticket(session_id=row["session_id"], text=row["text"]) for row in rows]


def work(agent: Agent, tickets: Sequence[Ticket], workers: int) -> Iterator[Routed]:
    """Routes every ticket, `workers` at a time; yields each as it is done."""
    with ThreadPoolExecutor(workers) as pool:
        for done in as_completed([pool.submit(agent.handle, ticket) for ticket in tickets]):
            yield done.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=Path, required=True, help="JSONL with session_id and text")
    parser.add_argument("--prompt", required=True, help="prompt file, or published folder or URL")
    parser.add_argument("--out", type=Path, required=True, help="the desk's own record, JSONL")
    parser.add_argument("--workers", type=int, default=8, help="tickets in work at a time")
    parser.add_argument("--model", help="ask for this model instead of the one that the prompt names")
    parser.add_argument("--version", help="name of this deployment, for the logs")
    arguments = parser.parse_args()

    prompt = read_prompt(arguments.prompt)
    provider = TracerProvider(resource=Resource.create({"service.name": "support-desk"}))
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    agent = Agent(
        prompt=prompt,
        client=OpenAI(api_key=os.environ.get("OPENAI_API_KEY", "none"), timeout=300, max_retries=3),
        tracer=trace.get_tracer("triage_agent"),
        model=arguments.model or prompt.get("adapter") or prompt["model"],
        version=arguments.version,
    )
    tickets = read_tickets(arguments.tickets)
    routed = 0
    failures: list[str] = []
    with arguments.out.open("w", encoding="utf-8") as desk:
        for number, outcome in enumerate(work(agent, tickets, arguments.workers), start=1):
            desk.write(json.dumps(asdict(outcome)) + "\n")
            desk.flush()
            routed += outcome.queue is not None
            if outcome.error is not None:
                failures.append(outcome.error)
            if number % 20 == 0 or number == len(tickets):
                print(f"{number}/{len(tickets)} tickets, {routed} routed", flush=True)
    provider.shutdown()
    if tickets and not routed:
        print(f"Error: no ticket could be routed; the last one: {failures[-1]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
