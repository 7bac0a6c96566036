"""What exporters are given: one trajectory with everything in it, in canonical rows, its messages resolved."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from tracemill.chat import ChatMessage, to_openai
from tracemill.ingest.reader import Message, RawScore, RawSpan

Row = Mapping[str, Any]
_SAME = (
    *("trace_id", "span_id", "parent_span_id", "session_id", "seq", "kind", "name", "start_ns", "end_ns", "status"),
    *("error_type", "error_message", "service", "agent_name", "agent_version", "provider", "model_requested", "model"),
    *("finish_reasons", "tool_name", "tool_call_id", "tool_args", "tool_result", "tokens_in", "tokens_cache_read"),
    *("tokens_cache_write", "tokens_out", "tokens_reasoning", "cost_usd", "prompt_name", "prompt_version"),
    *("prompt_label", "prompt_variables", "input_token_ids", "output_token_ids", "output_logprobs", "task_key"),
    *("response_id", "dialect", "revised_ns"),
)
"""Columns of `spans` that are fields of a RawSpan under the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One trajectory. Rows are those of the tables of schema.py."""

    trajectory: Row
    spans: Sequence[Row]
    """In order: by start, then by the source's own order."""
    transitions: Sequence[Row]
    scores: Sequence[Row]
    messages: Mapping[str, Message]
    """By message id. A message that was erased is not there."""

    @property
    def trace_id(self) -> str:
        return str(self.trajectory["trajectory_id"])

    def said(self, ids: Sequence[str] | None) -> list[Message]:
        return [self.messages[one] for one in ids or () if one in self.messages]

    def chat(self, ids: Sequence[str] | None) -> list[ChatMessage]:
        """Messages as the OpenAI API takes them."""
        return [to_openai(*message) for message in self.said(ids)]

    def tools(self, message_id: str | None) -> list[Any] | None:
        """Tool definitions, by the id of the message that holds them."""
        found = None if message_id is None else self.messages.get(message_id)
        return None if found is None else list(found[2])

    def reward(self, names: Sequence[str] = ("combined", "reward")) -> float | None:
        """What the trajectory was judged worth, itself or else as part of its session; None: nobody judged.

        The first name that has a score counts, and of its scores the latest.
        """
        for name in names:
            for kind in ("trajectory", "session"):
                judged = [
                    score
                    for score in self.scores
                    if score["name"] == name and score["target_kind"] == kind and score["value"] is not None
                ]
                if judged:
                    return float(max(judged, key=lambda score: (score["at"] or 0, score["score_id"] or ""))["value"])
        return None


class Exporter(Protocol):
    """One target. Holds no state."""

    @property
    def name(self) -> str:
        """What `tracemill export` is told."""
        ...

    @property
    def about(self) -> str:
        """What it writes, in a few words."""
        ...

    @property
    def table(self) -> pa.Schema | None:
        """The columns of its records, where they can be written as a table (Parquet)."""
        ...

    def records(self, episode: Episode) -> Iterator[dict[str, Any]]:
        """The JSON records that one trajectory becomes; none where it has nothing for this target."""
        ...


def raw_span(row: Row, episode: Episode) -> RawSpan:
    """A row of `spans` as the reader of its source gave it.

    The user is the pseudonym: nobody else is known here. Log-probabilities that are not finite are left out.
    """
    span = RawSpan(**{name: row[name] for name in _SAME if row.get(name) is not None})
    span.user = row.get("user_key")
    if not all(math.isfinite(one) for one in span.output_logprobs or ()):  # JSON has no word for it
        span.output_logprobs = None
    span.flags = [flag for flag in row.get("flags") or () if flag not in (row.get("marks") or ())]
    span.params = _object(row.get("params"))
    span.attributes = _object(row.get("attributes")) or {}
    system, prompt = row.get("system_ids"), row.get("input_ids")
    if prompt is not None:
        span.input = [*episode.said(system), *episode.said(prompt)]
    elif system is not None:
        span.system = episode.said(system)
    span.output = None if row.get("output_ids") is None else episode.said(row["output_ids"])
    span.tools = episode.tools(row.get("tool_definitions_id"))
    return span


def score_columns(score: Row) -> dict[str, Any]:
    """A row of `scores` as the fields of a RawScore, without those that are not known."""
    found = {name: score[name] for name in RawScore.__struct_fields__ if score.get(name) is not None}
    if not math.isfinite(found.get("value", 0.0)):
        del found["value"]
    if score.get("evidence") is not None:
        found["evidence"] = json.loads(score["evidence"])
    if score.get("user_key") is not None:
        found["user"] = score["user_key"]
    return found


def _object(text: str | None) -> dict[str, Any] | None:
    found = None if text is None else json.loads(text)
    return found if isinstance(found, dict) else None
