"""ATIF 1.8: one document a trajectory, which tracemill reads again as the same spans.

In ATIF's own words: the steps (system, user and agent messages with reasoning, tool calls and observations), agent and
version, session, model, times to the microsecond, tokens (input, cached, output), cost, token ids and logprobs, tool
definitions, tool calls with arguments and results, and conversations of their own (sub-agents, compacted histories)
as `subagent_trajectories`. In `extra.tracemill`, where ATIF has no word: ids and the tree, kinds other than calls and
tools, ends, status and errors, provider, parameters, the other tokens, prompt names, flags, attributes, and messages
that ATIF cannot spell. `extra.scores` has all scores, `extra.reward` what the trajectory was judged worth.

Not carried: `user_key` as such (it comes back as a pseudonym of the pseudonym); and where a row came from
(`source_uri`, `source_line`, `source_format`, `ingested_at`), which the new file says for itself.
"""

import json
import mimetypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeGuard

from tracemill.chat import Part, as_text, text_of
from tracemill.ingest.carried import beyond
from tracemill.ingest.exports.episode import Episode, raw_span, score_columns
from tracemill.ingest.exports.threads import Thread, threads
from tracemill.ingest.formats.atif import words as atif
from tracemill.ingest.reader import Message, RawSpan

_IMAGES = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
_SOUNDS = frozenset(f"audio/{kind}" for kind in ("wav", "mpeg", "mp4", "aac", "ogg", "flac", "webm", "aiff"))


class AtifExport:
    """Writer of ATIF documents."""

    name = "atif"
    about = "ATIF 1.8 documents, one a line; tracemill takes them in again as the same spans"
    table = None

    def records(self, episode: Episode) -> Iterator[dict[str, Any]]:
        yield _Document(episode).whole()


@dataclass(slots=True, kw_only=True)
class _Slot:
    """One result: what the model read of a tool, the tool's span, or both."""

    call_id: str | None
    message: Message | None = None
    span: RawSpan | None = None


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One step before it is numbered."""

    at: int
    """Place among the spans of the trajectory of the call that it belongs to."""
    source: str
    message: Message | None
    said: Message | None = None
    """What the calls after it read in its place."""
    silent: bool = False
    """No call after it reads it."""
    call: RawSpan | None = None
    tool: RawSpan | None = None
    """A tool that no call asked for: a step without a model."""
    slots: list[_Slot] = field(default_factory=list)


class _Document:
    """One trajectory on its way into a document."""

    def __init__(self, episode: Episode) -> None:
        self.episode = episode
        self.place = {row["span_id"]: at for at, row in enumerate(episode.spans)}
        self.spans = {row["span_id"]: raw_span(row, episode) for row in episode.spans}
        found = threads([row for row in episode.spans if row["kind"] == "llm"], episode) or [Thread()]
        self.threads = [self._entries(thread) for thread in found]
        self.below = self._sub_agents(found)
        self._place_tools([self.spans[row["span_id"]] for row in episode.spans if row["kind"] == "tool"])

    def whole(self) -> dict[str, Any]:
        row = self.episode.trajectory
        document = self._document(self.threads[0], self.episode.trace_id)
        below = [self._document(entries, self._name(at)) for at, entries in enumerate(self.threads) if at]
        if below:
            document["subagent_trajectories"] = below
        totals = {"total_prompt_tokens": row.get("tokens_in"), "total_completion_tokens": row.get("tokens_out")}
        totals |= {"total_cost_usd": row.get("cost_usd"), "total_steps": len(document["steps"])}
        document["final_metrics"] = {name: value for name, value in totals.items() if value is not None}
        others = [span for span in self.spans.values() if span.kind not in ("llm", "tool")]
        blank = RawSpan(trace_id=self.episode.trace_id, span_id="", kind="chain")
        document["extra"]["tracemill"]["spans"] = [beyond(span, blank) for span in others]
        reward = self.episode.reward()
        if reward is not None:
            document["extra"]["reward"] = reward
        if self.episode.scores:
            document["extra"]["scores"] = [score_columns(score) for score in self.episode.scores]
        return document

    def _name(self, at: int) -> str:
        return f"{self.episode.trace_id}/{at}"

    def _entries(self, thread: Thread) -> list[_Entry]:
        entries: list[_Entry] = []
        answers = {one.call["span_id"]: one for one in thread.heard if one.call is not None}
        for row, new in thread.steps:
            at = self.place[row["span_id"]]
            for one in new:
                self._hear(entries, self.episode.messages[one.message_id], at)
            call, heard = self.spans[row["span_id"]], answers.get(row["span_id"])
            entry = _Entry(at=at, source="agent", message=call.output[0] if call.output else None, call=call)
            entry.silent = heard is None
            if heard is not None and heard.answered is not None:
                entry.said = self.episode.messages[heard.message_id]
            entries.append(entry)
        return entries

    def _hear(self, entries: list[_Entry], message: Message, at: int) -> None:
        role, _, parts = message
        if role == "tool" and entries and entries[-1].source == "agent" and len(parts) == 1:
            entries[-1].slots.append(_Slot(call_id=_id(parts[0].get("id")), message=message))
        else:
            source = {"system": "system", "assistant": "agent"}.get(role, "user")
            entries.append(_Entry(at=at, source=source, message=message))

    def _place_tools(self, tools: Sequence[RawSpan]) -> None:
        """Puts each tool's span beside the call that asked for it, else makes it a step of its own."""
        asking: dict[str | None, list[_Entry]] = {}
        for entry in (entry for entries in self.threads for entry in entries if entry.call is not None):
            for call_id in _call_ids(entry.message):
                asking.setdefault(call_id, []).append(entry)
        for span in tools:
            if asked := asking.get(span.tool_call_id):
                self._attach(span, asked)
            else:
                at = self.place[span.span_id]
                self.threads[0].append(_Entry(at=at, source="agent", message=None, tool=span))
        self.threads[0].sort(key=lambda entry: entry.at)

    def _attach(self, span: RawSpan, asked: Sequence[_Entry]) -> None:
        at = self.place[span.span_id]
        entry = max((one for one in asked if one.at < at), key=lambda one: one.at, default=asked[0])
        for slot in entry.slots:
            if slot.call_id == span.tool_call_id and slot.span is None:
                slot.span = span
                return
        entry.slots.append(_Slot(call_id=span.tool_call_id, span=span))

    def _sub_agents(self, found: Sequence[Thread]) -> dict[str, list[str]]:
        """The names of the conversations that were begun below a tool's span."""
        below: dict[str, list[str]] = {}
        for at, thread in enumerate(found):
            if at == 0 or not thread.steps:
                continue
            above = self.spans.get(thread.steps[0][0]["parent_span_id"] or "")
            for _ in range(len(self.spans)):
                if above is None or above.kind == "tool":
                    break
                above = self.spans.get(above.parent_span_id or "")
            if above is not None and above.kind == "tool":
                below.setdefault(above.span_id, []).append(self._name(at))
        return below

    def _document(self, entries: Sequence[_Entry], name: str) -> dict[str, Any]:
        row = self.episode.trajectory
        calls = [entry.call for entry in entries if entry.call is not None]
        first = calls[0] if calls else None
        agent: dict[str, Any] = {
            "name": (first and first.agent_name) or row.get("agent_name") or row.get("service") or "agent",
            "version": (first and first.agent_version) or row.get("agent_version") or "unknown",
        }
        tools = next((call.tools for call in calls if call.tools), None)
        if tools:
            agent["tool_definitions"] = tools
        document: dict[str, Any] = {
            "schema_version": "ATIF-v1.8",
            "trajectory_id": name,
            "agent": agent,
            "steps": [],
            "extra": {"tracemill": {"version": atif.VERSION, "trace_id": self.episode.trace_id}},
        }
        if row.get("session_id") is not None:
            document["session_id"] = row["session_id"]
        said: list[Message] = []
        for number, entry in enumerate(entries, start=1):
            step = self._step(number, entry)
            self._carry(step, entry, document, said)
            # The very messages, which the step says in its own words or has beside it: long histories compare quickly.
            said.extend(_heard(entry))
            document["steps"].append(step)
        return document

    def _step(self, number: int, entry: _Entry) -> dict[str, Any]:
        span = entry.call or entry.tool
        step: dict[str, Any] = {"step_id": number, "source": entry.source, "message": ""}
        if span is not None and (stamp := _stamp(span.start_ns)) is not None:
            step["timestamp"] = stamp
        own: dict[str, Any] = {}
        if entry.message is not None:
            step |= _spelled(entry.message, agent=entry.source == "agent")
            if atif.message_of(step) != entry.message:
                own["message"] = entry.message
            if entry.said is not None:
                own["said"] = entry.said
        if entry.silent or entry.message is None:
            own["silent"] = True
        if entry.call is not None:
            step |= _called(entry.call)
        elif entry.tool is not None:
            call_id = entry.tool.tool_call_id or "call_0"
            part = {"id": call_id, "name": entry.tool.tool_name, "arguments": entry.tool.tool_args}
            step |= {"llm_call_count": 0, "tool_calls": [_call(part, 0)]}
            entry.slots = [_Slot(call_id=call_id, span=entry.tool)]
        elif entry.source == "agent":
            step["is_copied_context"] = True
        known = {call["tool_call_id"] for call in step.get("tool_calls", ())}
        results = [self._result(slot, known) for slot in entry.slots]
        if results:
            step["observation"] = {"results": results}
        if own:
            step["extra"] = {"tracemill": own}
        return step

    def _result(self, slot: _Slot, known: set[str]) -> dict[str, Any]:
        result: dict[str, Any] = {"source_call_id": slot.call_id} if slot.call_id in known else {}
        if slot.message is not None:
            response = slot.message[2][0].get("response")
            result["content"] = _content(response) if _are_parts(response) else as_text(response or "")
        elif slot.span is not None and slot.span.tool_result is not None:
            result["content"] = slot.span.tool_result
        if slot.span is not None and slot.span.span_id in self.below:
            names = self.below[slot.span.span_id]
            result["subagent_trajectory_ref"] = [{"trajectory_id": name} for name in names]
        return result

    def _carry(self, step: dict[str, Any], entry: _Entry, document: dict[str, Any], said: list[Message]) -> None:
        """Writes beside the step what reading its own words would not give back."""
        trace_id, agent = self.episode.trace_id, document["agent"]
        if entry.call is not None:
            native = atif.bare(atif.native_call(step, agent, trace_id, said), document)
            step.setdefault("extra", {}).setdefault("tracemill", {})["span"] = beyond(entry.call, native)
        written = step.get("observation", {}).get("results", [])
        calls = atif.calls_by_id(step)
        for slot, read, result in zip(entry.slots, atif.results_of(step), written, strict=True):
            own: dict[str, Any] = {}
            if slot.message is None:
                own["silent"] = True
            elif atif.answer_of(read) != slot.message:
                own["message"] = slot.message
            if slot.span is not None:
                tool = atif.native_tool(step, read, calls, agent, trace_id)
                own["span"] = beyond(slot.span, atif.bare(tool, document))
            if own:
                result["extra"] = {"tracemill": own}


def _heard(entry: _Entry) -> Iterator[Message]:
    """What `atif.heard_after` reads of the entry's step."""
    if entry.message is not None and not entry.silent:
        yield entry.said or entry.message
    for slot in entry.slots:
        if slot.message is not None:
            yield slot.message


def _call_ids(message: Message | None) -> set[str]:
    return {str(part.get("id")) for part in (message[2] if message else ()) if part.get("type") == "tool_call"}


def _id(value: Any) -> str | None:
    return None if value is None else str(value)


def _called(span: RawSpan) -> dict[str, Any]:
    """What ATIF says of a model call beside its message."""
    metrics: dict[str, Any] = {
        "prompt_tokens": span.tokens_in,
        "completion_tokens": span.tokens_out,
        "cached_tokens": span.tokens_cache_read,
        "cost_usd": span.cost_usd,
        "prompt_token_ids": span.input_token_ids,
        "completion_token_ids": span.output_token_ids,
        "logprobs": span.output_logprobs,
    }
    found: dict[str, Any] = {"model_name": span.model} if span.model is not None else {}
    more = {"reasoning_tokens": span.tokens_reasoning, "cache_creation_input_tokens": span.tokens_cache_write}
    known = {name: value for name, value in metrics.items() if value is not None}
    if extra := {name: value for name, value in more.items() if value is not None}:
        known["extra"] = extra
    if known:
        found["metrics"] = known
    return found


def _spelled(message: Message, *, agent: bool) -> dict[str, Any]:
    """A message in the fields of a step, as far as they go."""
    parts = message[2]
    content = [part for part in parts if part.get("type") not in ("reasoning", "tool_call")] if agent else parts
    found: dict[str, Any] = {"message": _content(content)}
    if agent:
        reasoning = [as_text(part.get("content")) for part in parts if part.get("type") == "reasoning"]
        calls = [part for part in parts if part.get("type") == "tool_call"]
        if any(reasoning):
            found["reasoning_content"] = "\n".join(reasoning)
        if calls:
            found["tool_calls"] = [_call(part, at) for at, part in enumerate(calls)]
    return found


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].get("type") == "text" and parts[0].get("content"):
        return as_text(parts[0]["content"])
    return [_content_part(part) for part in parts]


def _are_parts(value: Any) -> TypeGuard[list[Part]]:
    return isinstance(value, list) and all(isinstance(part, dict) and "type" in part for part in value)


def _content_part(part: Part) -> dict[str, Any]:
    if part.get("type") == "uri" and part.get("uri"):
        kind = part.get("mime_type") or mimetypes.guess_type(str(part["uri"]))[0]
        source = {"media_type": kind, "path": part["uri"]}
        if part.get("modality") == "image" and kind in _IMAGES:
            return {"type": "image", "source": source}
        if part.get("modality") == "audio" and kind in _SOUNDS:
            if part.get("duration_sec") is not None:
                source["duration_sec"] = part["duration_sec"]
            return {"type": "audio", "source": source}
    said = part.get("content") if part.get("type") == "text" else text_of([part]) or part
    return {"type": "text", "text": as_text(said)}


def _call(part: Part, at: int) -> dict[str, Any]:
    """A tool call; ATIF wants an id and an object. The model's own text of the arguments stands beside it."""
    given = part.get("arguments")
    arguments = given
    if isinstance(given, str):
        try:
            arguments = json.loads(given)
        except ValueError:
            arguments = None
    call: dict[str, Any] = {
        "tool_call_id": _id(part.get("id")) or f"call_{at}",
        "function_name": as_text(part.get("name") or ""),
    }
    call["arguments"] = arguments if isinstance(arguments, dict) else {}
    if call["arguments"] is not given:
        call["extra"] = {"tracemill": {"arguments": given}}
    return call


def _stamp(ns: int | None) -> str | None:
    if ns is None:
        return None
    try:
        moment = datetime.fromtimestamp(ns // 1_000_000_000, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return None
    return moment.replace(microsecond=ns // 1000 % 1_000_000).isoformat().replace("+00:00", "Z")
