"""Fine-tuning examples (SFT) as the OpenAI API takes them: conversations with the tools that they may use."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from tracemill.ingest.documents import guarded
from tracemill.ingest.providers.openai import bare_conversation, has_messages
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.tables import rows

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
        for found in rows(stream, head):
            if isinstance(found, BadRecord):
                yield found
            else:
                line, row = found
                yield from guarded(_example(row, line), partial(_bad, line, row))
            yield Done()


def _bad(line: int, row: dict[str, Any], reason: str) -> BadRecord:
    return BadRecord(reason=reason, line=line, excerpt=str(row)[:2000])


def _example(row: dict[str, Any], line: int) -> Iterator[Item]:
    if not has_messages(row):
        yield _bad(line, row, "no example: messages are missing")
        return
    rest = {name: value for name, value in row.items() if name != "messages"}
    yield from bare_conversation(row["messages"], line=line, rest=rest)
