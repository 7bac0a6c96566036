"""Streamed pieces of one answer put together again."""

from collections.abc import Iterable, Mapping
from typing import Any

from tracemill.ingest.providers.streams import ChatChunks


def merged(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """OpenAI's `chat.completion.chunk`s as the `chat.completion` that they stream; usage as the last one gives it.

    A call's arguments arrive in pieces that share an index; deltas without choices are taken as one choice's.
    """
    whole = ChatChunks()
    for chunk in chunks:
        whole.add(chunk)
    return whole.answer()
