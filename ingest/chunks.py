"""Streamed pieces of one answer put together again."""

from collections.abc import Iterable, Mapping
from typing import Any


def merged(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """OpenAI's `chat.completion.chunk`s as the `chat.completion` that they stream; usage as the last one gives it.

    A call's arguments arrive in pieces that share an index; deltas without choices are taken as one choice's.
    """
    whole: dict[str, Any] = {"object": "chat.completion"}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for name in ("id", "created", "model", "system_fingerprint", "service_tier", "usage"):
            if chunk.get(name) is not None:
                whole[name] = chunk[name]
        pieces = chunk.get("choices")
        for piece in pieces if isinstance(pieces, list) else [chunk] if "delta" in chunk else []:
            if isinstance(piece, Mapping):
                index = piece.get("index")
                _choice(choices.setdefault(index if isinstance(index, int) else 0, {"message": {}}), piece)
    for choice in choices.values():
        calls = choice["message"].get("tool_calls")
        if calls is not None:
            choice["message"]["tool_calls"] = [calls[index] for index in sorted(calls)]
    whole["choices"] = [{"index": index, **choices[index]} for index in sorted(choices)]
    return whole


def _choice(choice: dict[str, Any], piece: Mapping[str, Any]) -> None:
    if piece.get("finish_reason") is not None:
        choice["finish_reason"] = piece["finish_reason"]
    delta = piece.get("delta") or piece.get("message")
    message = choice["message"]
    if isinstance(piece.get("text"), str):
        message["content"] = (message.get("content") or "") + piece["text"]
    if not isinstance(delta, Mapping):
        return
    if delta.get("role") is not None:
        message.setdefault("role", delta["role"])
    for name in ("content", "reasoning_content", "refusal"):
        if isinstance(delta.get(name), str):
            message[name] = (message.get(name) or "") + delta[name]
    calls = delta.get("tool_calls")
    for place, call in enumerate(calls if isinstance(calls, list) else []):
        if isinstance(call, Mapping):
            index = call.get("index")
            _call(message.setdefault("tool_calls", {}), index if isinstance(index, int) else place, call)


def _call(calls: dict[int, dict[str, Any]], index: int, piece: Mapping[str, Any]) -> None:
    call = calls.setdefault(index, {"type": "function", "function": {"name": None, "arguments": ""}})
    if piece.get("id"):
        call["id"] = piece["id"]
    function = piece.get("function")
    if isinstance(function, Mapping):
        call["function"]["name"] = function.get("name") or call["function"]["name"]
        if isinstance(function.get("arguments"), str):
            call["function"]["arguments"] += function["arguments"]
