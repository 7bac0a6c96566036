"""What the fields of an ATIF step say: calls, tools, messages and scores. Both the reader and the exporter use it.

The exporter writes a step, reads it back with these functions, and keeps beside it only what came back otherwise.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tracemill.chat import Part, as_text
from tracemill.ingest.attributes import as_float, as_int, as_name, as_ns
from tracemill.ingest.reader import Message, RawScore, RawSpan

VERSION = 1
"""Of what stands in `extra.tracemill`."""
_ROLES = {"system": "system", "user": "user", "agent": "assistant"}
_CACHE_WRITES = ("cache_creation_input_tokens", "cache_write_tokens", "cache_creation_tokens")


def ours(record: Any) -> Mapping[str, Any]:
    """What tracemill itself left in an `extra`; empty where it did not write the document."""
    extra = record.get("extra") if isinstance(record, Mapping) else None
    found = extra.get("tracemill") if isinstance(extra, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def native_call(step: Mapping[str, Any], agent: Mapping[str, Any], trace_id: str, said: Sequence[Message]) -> RawSpan:
    """The model call of an agent step, as ATIF's own fields say it."""
    metrics = step["metrics"] if isinstance(step.get("metrics"), Mapping) else {}
    more = metrics["extra"] if isinstance(metrics.get("extra"), Mapping) else {}
    model = as_name(step.get("model_name")) or as_name(agent.get("model_name"))
    rest = {"step_id": step.get("step_id"), "llm_call_count": step.get("llm_call_count")}
    rest |= {"extra": foreign(step), "metrics": more or None}
    span = RawSpan(
        trace_id=trace_id,
        span_id="",
        kind="llm",
        name="chat",
        start_ns=as_ns(step.get("timestamp")),
        agent_name=as_name(agent.get("name")),
        agent_version=as_name(agent.get("version")),
        model_requested=model,
        model=model,
        params={"reasoning_effort": step["reasoning_effort"]} if step.get("reasoning_effort") is not None else None,
        input=list(said),
        output=[spelled(ours(step).get("message")) or message_of(step)],
        tools=agent.get("tool_definitions") or None,
        dialect="atif",
        attributes={name: value for name, value in rest.items() if value is not None},
    )
    span.tokens_in, span.tokens_out = as_int(metrics.get("prompt_tokens")), as_int(metrics.get("completion_tokens"))
    span.tokens_cache_read = as_int(metrics.get("cached_tokens"))
    span.tokens_cache_write = next((n for name in _CACHE_WRITES if (n := as_int(more.get(name))) is not None), None)
    span.tokens_reasoning = as_int(more.get("reasoning_tokens"))
    span.cost_usd = as_float(metrics.get("cost_usd"))
    span.input_token_ids = metrics.get("prompt_token_ids")
    span.output_token_ids = metrics.get("completion_token_ids")
    span.output_logprobs = metrics.get("logprobs")
    return span


def native_tool(
    step: Mapping[str, Any],
    result: Mapping[str, Any],
    calls: Mapping[str, Mapping[str, Any]],
    agent: Mapping[str, Any],
    trace_id: str,
) -> RawSpan:
    """The tool call that a result answers, one of the step's `calls`, as ATIF's own fields say it."""
    call_id = result.get("source_call_id")
    call = calls.get(str(call_id), {})
    references = result.get("subagent_trajectory_ref")
    rest = {"subagent_trajectory_ref": references, "extra": foreign(result), "call_extra": call.get("extra")}
    name = as_name(call.get("function_name"))
    return RawSpan(
        trace_id=trace_id,
        span_id="",
        kind="tool",
        name=name,
        start_ns=as_ns(step.get("timestamp")),
        agent_name=as_name(agent.get("name")),
        agent_version=as_name(agent.get("version")),
        tool_name=name,
        tool_call_id=None if call_id is None else str(call_id),
        tool_args=arguments_of(call),
        tool_result=None if result.get("content") is None else plain(parts_of(result["content"])),
        dialect="atif",
        attributes={name: value for name, value in rest.items() if value},
    )


def message_of(step: Mapping[str, Any]) -> Message:
    """What a step says, as one canonical message."""
    role = _ROLES.get(str(step.get("source")), "user")
    parts: list[Part] = []
    if step.get("reasoning_content"):
        parts.append({"type": "reasoning", "content": as_text(step["reasoning_content"])})
    parts.extend(parts_of(step.get("message")))
    for call in calls_of(step):
        name, arguments = call.get("function_name"), arguments_of(call)
        parts.append({"type": "tool_call", "id": call.get("tool_call_id"), "name": name, "arguments": arguments})
    return role, None, parts or [{"type": "text", "content": ""}]


def answer_of(result: Mapping[str, Any]) -> Message:
    """What the model reads of a result: a tool's answer, or words of its environment where no call asked for it."""
    parts = parts_of(result.get("content"))
    if result.get("source_call_id") is None:
        return "user", None, parts
    response = plain(parts)
    if result.get("content") is None and result.get("subagent_trajectory_ref"):
        response = {"subagent_trajectory_ref": result["subagent_trajectory_ref"]}
    return "tool", None, [{"type": "tool_call_response", "id": result["source_call_id"], "response": response}]


def parts_of(content: Any) -> list[Part]:
    """Text, or ContentParts (from 1.6 on), in canonical parts."""
    if isinstance(content, list):
        return [_part(item) for item in content]
    return [] if content in (None, "") else [{"type": "text", "content": as_text(content)}]


def plain(parts: Sequence[Part]) -> Any:
    """Parts as a tool's result: their text where they are only text."""
    if all(part.get("type") == "text" for part in parts):
        return "\n".join(as_text(part.get("content")) for part in parts)
    return list(parts)


def calls_of(step: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    calls = step.get("tool_calls")
    return [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []


def calls_by_id(step: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The calls of a step by their ids, the first of two that have one id."""
    return {str(call.get("tool_call_id")): call for call in reversed(calls_of(step))}


def arguments_of(call: Mapping[str, Any]) -> Any:
    """What a call hands to its tool; tracemill keeps the very text that the model wrote beside the object."""
    return ours(call).get("arguments", call.get("arguments"))


def results_of(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results that a step observed. The only result of the only call answers it, whether it says so or not."""
    observation = step.get("observation")
    found = observation.get("results") if isinstance(observation, Mapping) else None
    results = [dict(result) for result in found if isinstance(result, Mapping)] if isinstance(found, list) else []
    calls = calls_of(step)
    if len(results) == len(calls) == 1 and results[0].get("source_call_id") is None:
        results[0]["source_call_id"] = calls[0].get("tool_call_id")
    return results


def scores_of(extra: Any, target_kind: str, target_id: str) -> Iterator[RawScore]:
    """Rewards, for which ATIF has no field: `reward` or `rewards` (a number, or numbers by name) and `scores`."""
    if not isinstance(extra, Mapping):
        return
    for place in ("reward", "rewards"):
        value = extra.get(place)
        named = value if isinstance(value, Mapping) else {"reward": value}
        for name, one in named.items():
            number = float(one) if isinstance(one, bool) else as_float(one)
            if number is not None:
                yield RawScore(target_kind=target_kind, target_id=target_id, name=str(name), value=number, source="env")
    scores = extra.get("scores")
    if isinstance(scores, Mapping):
        scores = [{"name": name, "value": value} for name, value in scores.items()]
    for score in scores if isinstance(scores, list) else ():
        if isinstance(score, Mapping) and score.get("name"):
            known = {name: score[name] for name in _SCORE_FIELDS if score.get(name) is not None}
            known = {"target_kind": target_kind, "target_id": target_id, "source": "env"} | known
            yield msgspec.convert(known, RawScore, strict=False)


_SCORE_FIELDS = frozenset(RawScore.__struct_fields__)


def heard_after(step: Mapping[str, Any]) -> Iterator[Message]:
    """What the calls after a step of tracemill's own document read of it: the step, and its results."""
    own = ours(step)
    if not own.get("silent"):
        yield spelled(own.get("said")) or spelled(own.get("message")) or message_of(step)
    for result in results_of(step):
        own = ours(result)
        if not own.get("silent"):
            yield spelled(own.get("message")) or answer_of(result)


def session_of(document: Mapping[str, Any]) -> str | None:
    session = document.get("session_id")
    return None if session is None else str(session)


def bare(span: RawSpan, document: Mapping[str, Any]) -> RawSpan:
    """What ATIF's fields say of a span before tracemill's own columns are put over it."""
    span.attributes = {}
    span.session_id = session_of(document)
    return span


def spelled(message: Any) -> Message | None:
    """A message that tracemill wrote out as ATIF could not say it."""
    if message is None:
        return None
    role, name, parts = message
    return str(role), None if name is None else str(name), [dict(part) for part in parts]


def foreign(record: Mapping[str, Any]) -> dict[str, Any] | None:
    extra = record.get("extra")
    if not isinstance(extra, Mapping):
        return None
    return {name: value for name, value in extra.items() if name != "tracemill"} or None


def _part(item: Any) -> Part:
    if not isinstance(item, Mapping):
        return {"type": "text", "content": as_text(item)}
    kind, source = item.get("type"), item.get("source")
    if kind == "text":
        return {"type": "text", "content": as_text(item.get("text", ""))}
    if kind in ("image", "audio") and isinstance(source, Mapping):
        part: Part = {"type": "uri", "modality": kind, "uri": source.get("path")}
        if source.get("media_type") is not None:
            part["mime_type"] = source["media_type"]
        if source.get("duration_sec") is not None:
            part["duration_sec"] = source["duration_sec"]
        return part
    return dict(item)
