"""Chat JSONL as the OpenAI fine-tuning API takes it: a conversation a line, `messages` and where there are any `tools`.

A trajectory gives a line for each of its conversations (see threads.py): the last prompt of each with the answer to
it, so that nothing stands in two lines. Answers that may not be learned from (copied, truncated, written by a harness)
carry `"weight": 0`. Not carried: everything but the messages and the tool definitions.
"""

from collections.abc import Iterator
from typing import Any

from tracemill.ingest.exports.episode import Episode
from tracemill.ingest.exports.threads import threads


class OpenAIExport:
    """Writer of chat JSONL."""

    name = "openai"
    about = "chat JSONL for fine-tuning: one conversation a line, messages and tools"
    table = None

    def records(self, episode: Episode) -> Iterator[dict[str, Any]]:
        calls = [row for row in episode.spans if row["kind"] == "llm" and row["input_ids"] is not None]
        barred = {row["span_id"] for row in episode.transitions if row["trainable"] is False}
        judged = {row["span_id"] for row in episode.transitions}
        for thread in threads([row for row in calls if row["span_id"] in judged], episode):
            if not any(one.call is not None for one in thread.heard):
                continue
            last = max(at for at, one in enumerate(thread.heard) if one.call is not None)
            messages = []
            for one in thread.heard[: last + 1]:
                (message,) = episode.chat([one.message_id])
                if message["role"] == "assistant" and (one.call is None or one.call["span_id"] in barred):
                    message["weight"] = 0
                messages.append(message)
            record: dict[str, Any] = {"messages": messages}
            named = [row["tool_definitions_id"] for row, _ in thread.steps if row["tool_definitions_id"] is not None]
            tools = episode.tools(named[-1]) if named else None
            if tools:
                record["tools"] = tools
            yield record
