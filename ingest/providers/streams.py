"""Streamed answers put together again: the chunks or events of one call give the object that it would have answered.

What a stream does not say stays out: usage that was not asked for is missing, not 0.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.documents import MALFORMED, unwrap
from tracemill.ingest.providers.calls import mapping
from tracemill.ingest.providers.sse import said

_TERMINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class _Pieces(list[str]):
    """A text that is still arriving: put together once, as a long answer has very many pieces."""


def _more(held: dict[str, Any], name: str, piece: str) -> None:
    """Adds a piece to the text of that name. Raises TypeError where something else stands there."""
    found = held.get(name)
    if isinstance(found, _Pieces):
        found.append(piece)
    elif not found:
        held[name] = _Pieces([piece])
    elif isinstance(found, str):
        held[name] = _Pieces([found, piece])
    else:
        raise TypeError(f"{name} is no text")


def _whole(value: Any) -> Any:
    """The value with its texts put together."""
    if isinstance(value, _Pieces):
        return "".join(value)
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


class ChatChunks:
    """The chunks of one chat completion."""

    def __init__(self) -> None:
        self.done = False
        """A finish reason was seen; only usage may still come."""
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, chunk: Mapping[str, Any]) -> None:
        for name, value in chunk.items():
            if name not in ("choices", "delta", "object", "obfuscation") and value is not None:
                self._top[name] = value
        pieces = chunk.get("choices")
        for piece in pieces if isinstance(pieces, list) else [chunk] if "delta" in chunk else []:
            if isinstance(piece, dict):
                self._choice(piece)

    def answer(self) -> dict[str, Any]:
        """The `chat.completion` object."""
        choices = []
        for index in sorted(self._choices):
            choice = self._choices[index]
            message = _whole(choice["message"])
            calls = message.pop("tool_calls", None)
            if calls:
                message["tool_calls"] = [calls[at] for at in sorted(calls)]
            choices.append({**choice, "message": message})
        return {**self._top, "object": "chat.completion", "choices": choices}

    def _choice(self, choice: dict[str, Any]) -> None:
        index = choice["index"] if isinstance(choice.get("index"), int) else 0
        held = self._choices.setdefault(index, {"index": index, "message": {}})
        if choice.get("finish_reason") is not None:
            held["finish_reason"] = choice["finish_reason"]
            self.done = True
        logprobs = mapping(choice.get("logprobs")).get("content")
        if isinstance(logprobs, list):
            held.setdefault("logprobs", {"content": []})["content"].extend(logprobs)
        if isinstance(choice.get("token_ids"), list):
            held.setdefault("token_ids", []).extend(choice["token_ids"])
        message = held["message"]
        if isinstance(choice.get("text"), str):  # completions
            _more(message, "content", choice["text"])
        for name, value in mapping(choice.get("delta") or choice.get("message")).items():
            if name == "tool_calls":
                for at, call in enumerate(value or []):
                    _call(message.setdefault("tool_calls", {}), call, at)
            elif name == "function_call" and isinstance(value, dict):
                _extend(message.setdefault("function_call", {}), value)
            elif isinstance(value, str) and name not in ("role", "id", "name"):
                _more(message, name, value)
            elif value is not None:
                message[name] = value


def _call(calls: dict[int, dict[str, Any]], delta: Any, at: int) -> None:
    """Pieces of one tool call share an index; servers that send whole calls leave it away."""
    if not isinstance(delta, dict):
        return
    index = delta.get("index")
    held = calls.setdefault(index if isinstance(index, int) else len(calls) + at, {"function": {}})
    for name in ("id", "type"):
        if delta.get(name):
            held[name] = delta[name]
    _extend(held["function"], mapping(delta.get("function")))


def _extend(function: dict[str, Any], delta: Mapping[str, Any]) -> None:
    if delta.get("name"):
        function["name"] = delta["name"] if not function.get("name") else function["name"]
    if isinstance(delta.get("arguments"), str):
        _more(function, "arguments", delta["arguments"])


class ResponseEvents:
    """The `response.*` events of one response."""

    def __init__(self) -> None:
        self.done = False
        self._response: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        kind = str(event.get("type"))
        if isinstance(event.get("response"), dict):
            self._response = {**self._response, **event["response"]}
            self.done = self.done or kind in _TERMINAL
            return
        if kind == "error":
            self._response["error"] = event.get("error") or {k: v for k, v in event.items() if k != "type"}
            self._response["status"], self.done = "failed", True
            return
        index = event.get("output_index")
        if not isinstance(index, int):
            return
        if kind in ("response.output_item.added", "response.output_item.done") and isinstance(event.get("item"), dict):
            self._items[index] = event["item"]
        elif kind.endswith(".delta") and isinstance(event.get("delta"), str):
            _item_delta(self._items.setdefault(index, {"type": "message", "role": "assistant"}), kind, event)

    def answer(self) -> dict[str, Any]:
        """The response object; its output from the items where the stream was torn before its end."""
        if self._response.get("output"):
            return self._response
        return {
            **self._response,
            "object": "response",
            "output": [_whole(self._items[at]) for at in sorted(self._items)],
        }


def _item_delta(item: dict[str, Any], kind: str, event: Mapping[str, Any]) -> None:
    if "arguments" in kind or "_input" in kind or "_call_code" in kind:
        name = "arguments" if "arguments" in kind else "input" if "_input" in kind else "code"
        _more(item, name, event["delta"])
        return
    place, piece = ("summary", "summary_text") if "summary" in kind else ("content", "output_text")
    name, piece = ("refusal", "refusal") if "refusal" in kind else ("text", piece)
    at = event.get("summary_index" if place == "summary" else "content_index")
    pieces = item.setdefault(place, [])
    while len(pieces) <= (at if isinstance(at, int) and at < 1000 else 0):
        pieces.append({"type": piece, name: ""})
    held = pieces[at if isinstance(at, int) and at < 1000 else 0]
    held["type"] = piece
    _more(held, name, event["delta"])


class MessageEvents:
    """The events of one Anthropic message: `message_start`, `content_block_*`, `message_delta`, `message_stop`."""

    def __init__(self) -> None:
        self.done = False
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, _Pieces] = {}
        self._closed: set[int] = set()

    def add(self, event: Mapping[str, Any]) -> None:
        kind, index = event.get("type"), event.get("index")
        if kind == "message_start":
            self._message = dict(mapping(event.get("message")))
        elif kind == "message_delta":
            self._message.update(mapping(event.get("delta")))
            # Cumulative: each count that is said again replaces the one of the start.
            told = {k: v for k, v in mapping(event.get("usage")).items() if v is not None}
            self._message["usage"] = {**mapping(self._message.get("usage")), **told}
        elif kind == "message_stop":
            self.done = True
        elif kind == "error":
            self._message["error"], self.done = event.get("error"), True
        elif not isinstance(index, int):
            return
        elif kind == "content_block_start":
            self._blocks[index] = dict(mapping(event.get("content_block")))
        elif kind == "content_block_delta":
            self._delta(index, mapping(event.get("delta")))
        elif kind == "content_block_stop":
            self._closed.add(index)

    def answer(self) -> dict[str, Any]:
        """The message object."""
        blocks = []
        for index in sorted(self._blocks):
            block = _whole(self._blocks[index])
            if index in self._inputs:
                block["input"] = unwrap("".join(self._inputs[index])) or block.get("input")
            blocks.append(block)
        return {**self._message, "type": "message", "content": blocks or self._message.get("content") or []}

    @property
    def torn(self) -> bool:
        """The stream ended before the model had: there is no stop reason, or a block was never closed."""
        return not self.done or bool(set(self._blocks) - self._closed)

    def _delta(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks.setdefault(index, {"type": "text", "text": ""})
        kind = delta.get("type")
        if kind == "input_json_delta":
            self._inputs.setdefault(index, _Pieces()).append(str(delta.get("partial_json") or ""))
        elif kind == "citations_delta":
            block["citations"] = block.get("citations") or []
            block["citations"].append(delta.get("citation"))
        else:
            for name in ("text", "thinking", "signature"):
                if isinstance(delta.get(name), str):
                    _more(block, name, delta[name])


def streamed(answer: Any) -> Any:
    """The object that a logged answer stands for, where it is the text or the list of a stream; else the answer."""
    events: Any = answer
    if isinstance(answer, str) and answer.lstrip()[:6] in ("data: ", "event:", "data:{"):
        events = list(said(answer.encode("utf-8", "surrogatepass")))
    if not isinstance(events, list) or not events or not all(isinstance(e, dict) for e in events):
        return answer
    held = merger(events[0])
    if held is None:
        return answer
    try:
        for event in events:
            held.add(event)
        return held.answer()
    except MALFORMED:
        return answer


def merger(event: Mapping[str, Any]) -> "ChatChunks | ResponseEvents | MessageEvents | None":
    """What puts the stream together that begins with this event; None where it begins none."""
    if event.get("object") == "chat.completion.chunk":
        return ChatChunks()
    if str(event.get("type")).startswith("response."):
        return ResponseEvents()
    return MessageEvents() if event.get("type") == "message_start" else None
