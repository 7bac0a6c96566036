"""Fine-tuning examples (SFT) as the OpenAI API takes them: conversations with the tools that they may use."""

from collections.abc import Iterator
from typing import Any

from tracemill.ingest.providers.openai import bare_conversation, has_messages
from tracemill.ingest.reader import About, Done, Head, Item, Stream
from tracemill.ingest.tables import bad_row, each_row

_KEYS = frozenset(("messages", "tools", "functions", "parallel_tool_calls"))


class FineTuning:
    """Reader of fine-tuning JSON lines."""

    name = "fine-tuning"
    about = About(
        title="OpenAI fine-tuning examples",
        files="JSON lines of `messages` with `tools`, `functions`, `parallel_tool_calls` or a `weight` of an answer",
        maps="One conversation an example, each answer a call with the tools offered; answers of weight 0 are flagged "
        "`weight_0`",
        lacks="No times, tokens, cost or models: nothing was called, the answers were written down",
    )

    def sniff(self, head: Head) -> str | None:
        found = [record for record in head.records if isinstance(record, dict)]
        if not found or not all(set(record) <= _KEYS and has_messages(record) for record in found):
            return None
        if any(len(record) > 1 for record in found):
            return "messages with the tools of fine-tuning examples"
        if any("weight" in message for record in found for message in record["messages"]):
            return "messages with the weights of fine-tuning examples"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each_row(stream, head, _example)


def _example(line: int, row: dict[str, Any]) -> Iterator[Item]:
    if not has_messages(row):
        yield bad_row(line, row, "no example: messages are missing")
        return
    rest = {name: value for name, value in row.items() if name != "messages"}
    yield from bare_conversation(row["messages"], line=line, rest=rest)
