"""OpenLLMetry (Traceloop): indexed `gen_ai.prompt.N.*`, `traceloop.*` steps; the rest are GenAI's older names.

Source: opentelemetry-semantic-conventions-ai 0.4 and 0.5.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import Attributes, take, take_prefixed, take_text, unflatten
from tracemill.ingest.dialects import genai
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import About, Item, RawSpan

_SCOPE = "opentelemetry.instrumentation."
_ENTITY = "traceloop.entity."

ABOUT = About(
    title="OpenLLMetry (Traceloop)",
    maps="Indexed prompts and completions, functions, tokens of old and new names, entity inputs and outputs, "
    "association properties, prompt names and variables; gaps in the indices are flagged as truncated",
    lacks="Cost; content where TRACELOOP_TRACE_CONTENT is off",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    if words.begin("traceloop.", "llm.request.", "llm.usage."):
        return True
    if words.begin("gen_ai.prompt.", "gen_ai.completion.") and words.begin(*_INDEXED):
        return True
    return words.scope.startswith(_SCOPE) and words.begin("gen_ai.")


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    prompt = _indexed(span, attributes, "gen_ai.prompt")
    answer = _indexed(span, attributes, "gen_ai.completion")
    if prompt is not None:
        attributes.setdefault("gen_ai.input.messages", prompt)
    if answer is not None:
        attributes.setdefault("gen_ai.output.messages", answer)
    functions = take_prefixed(attributes, "llm.request.functions.") or take_prefixed(
        attributes, "gen_ai.request.functions."
    )
    if functions:
        attributes.setdefault("gen_ai.tool.definitions", _definitions(unflatten(functions)[0]))
    kind = take_text(attributes, "traceloop.span.kind")
    if kind is not None:
        attributes.setdefault("gen_ai.operation.name", kind)
    name = take_text(attributes, f"{_ENTITY}name")
    given = take(attributes, f"{_ENTITY}input")
    gave = take(attributes, f"{_ENTITY}output")
    scores = genai.fill(span, attributes, events)
    if span.kind == "agent":
        span.agent_name = span.agent_name or name
    if span.kind == "tool":
        span.tool_name = span.tool_name or name
        span.tool_args = _arguments(given) if span.tool_args is None else span.tool_args
        span.tool_result = _result(gave) if span.tool_result is None else span.tool_result
        return scores
    for key, value in (("name", name), ("input", given), ("output", gave)):
        if value is not None:
            attributes[f"{_ENTITY}{key}"] = value
    return scores


def _indexed(span: RawSpan, attributes: Attributes, prefix: str) -> list[Any] | None:
    """The messages of flat attributes in the order of their numbers; a missing one is flagged."""
    at = len(prefix) + 1
    names = [name for name in attributes if name.startswith(prefix + ".") and name[at : at + 1].isdigit()]
    if not names:
        return None
    found, gaps = unflatten({name[at:]: attributes.pop(name) for name in names})
    if not isinstance(found, list):
        return None
    if gaps:
        span.flags.append("truncated")
    return [_message(message) for message in found]


def _message(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    known = {name: value for name, value in message.items() if name == "content" or value not in _NOTHING}
    calls = known.get("tool_calls")
    if isinstance(calls, list):
        known["tool_calls"] = [
            {"id": _known(c.get("id")), "function": {"name": c.get("name"), "arguments": c.get("arguments")}}
            for c in calls
            if isinstance(c, dict)
        ]
    if known.get("content") in ("", *_NOTHING) and (calls or known.get("finish_reason") in _CALLING):
        known["content"] = None  # str(None) is what stands beside tool calls
    if known.get("role") == "tool" and isinstance(unwrap(known.get("content")), list):
        known["content"] = unwrap(known["content"])
    return known


def _definitions(found: Any) -> Any:
    """Functions with their parameters as a schema; an attribute can only hold its text."""
    if not isinstance(found, list):
        return found
    return [
        {**item, "parameters": unwrap(item["parameters"])} if isinstance(item, dict) and "parameters" in item else item
        for item in found
    ]


def _known(value: Any) -> Any:
    return None if value in _NOTHING else value


def _arguments(value: Any) -> Any:
    """What a tool was called with, out of a traced function's arguments or a LangChain run's inputs."""
    found = unwrap(value)
    if not isinstance(found, Mapping):
        return found
    for name in ("inputs", "input_str"):
        inner = unwrap(found.get(name))
        if inner not in (None, "", {}):
            return inner
    if set(found) <= {"args", "kwargs"}:
        given, named = found.get("args") or [], found.get("kwargs") or {}
        return named if named and not given else given if given and not named else dict(found)
    return found


def _result(value: Any) -> Any:
    found = unwrap(value)
    if not isinstance(found, Mapping) or not set(found) <= {"output", "kwargs"} or "output" not in found:
        return value
    output = unwrap(found["output"])
    kwargs = output.get("kwargs") if isinstance(output, Mapping) and output.get("type") == "constructor" else None
    return kwargs["content"] if isinstance(kwargs, Mapping) and "content" in kwargs else output


_NOTHING = ("None", "null")
_CALLING = ("tool_calls", "tool_use", "tool_call", "function_call")
_INDEXED = tuple(f"gen_ai.{said}.{digit}" for said in ("prompt", "completion") for digit in range(10))
