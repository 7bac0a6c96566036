"""Where the answers of an episode went: which later calls were sent them, as far as the log shows it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tracemill.ids import canonical_json
from tracemill.records import ChainedCall, ChatMessage, Passed

_ENOUGH = 12
"""Characters of an answer that is believed to be itself in the middle of another text."""
_Place = tuple[str, int | None]
"""A slot, and the number of the message where it is a conversation."""


def linked(calls: Sequence[ChainedCall], given: Iterable[tuple[str, str]] = ()) -> tuple[ChainedCall, ...]:
    """The calls with what they were passed, and with whether the log tells where each answer went.

    A later text is an answer (but for blanks around it), or holds it: once, at some length, and where nothing that was
    sent before says the same. An answer that is found nowhere is not told; nor is one that may stand in a text besides,
    of which a text is a part, that another call answered as well, or that a tool was given by no call of a model.
    `given`: names and arguments of tools that ran.
    """
    said = [_said(call.answer) for call in calls]
    sent = [dict(_texts(call.values)) for call in calls]
    called = {_key(*tool) for call in calls for tool in _tools(call.answer)}
    to_tools = [text for tool in given if _key(*tool) not in called for text in _strings(tool[1])]
    passed: list[list[Passed]] = [[] for _ in calls]
    found, lost = set[int](), set[int]()
    # The longest first: what is quoted inside another answer went into that one.
    for source in sorted(range(len(calls)), key=lambda one: (-len(said[one]), one)):
        answer = said[source]
        if not answer or said.count(answer) > 1:
            continue
        word = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)")
        before = [text for texts in sent[: source + 1] for text in texts.values()]
        known = any(word.search(text) for text in before)
        unseen = (text for call in calls[source + 1 :] for text in _hidden(call.values))
        if any(word.search(text) for text in (*to_tools, *unseen)):
            lost.add(source)
        for later in range(source + 1, len(calls)):
            for (slot, turn), text in sent[later].items():
                if _stood(calls, sent, source, later, (slot, turn)):
                    continue
                taken = [(one.start, one.end) for one in passed[later] if (one.slot, one.turn) == (slot, turn)]
                spans = [hit.span() for hit in word.finditer(text)]
                free = [span for span in spans if all(span[1] <= start or end <= span[0] for start, end in taken)]
                whole = text.strip() == answer
                sure = text not in before if whole else len(answer) >= _ENOUGH and not known
                if len(free) == 1 and sure:
                    passed[later].append(Passed(source=source, slot=slot, turn=turn, start=free[0][0], end=free[0][1]))
                    found.add(source)
                elif (free and (whole or not known or text not in before)) or (
                    not taken and _is_part(text.strip(), answer, before)
                ):
                    lost.add(source)
    return tuple(
        replace(
            call,
            passed=tuple(sorted(passed[place], key=lambda one: (one.slot, one.turn or 0, one.start))),
            told=place in found and place not in lost,
        )
        for place, call in enumerate(calls)
    )


def _stood(
    calls: Sequence[ChainedCall], sent: Sequence[Mapping[_Place, str]], source: int, later: int, place: _Place
) -> bool:
    """Whether the text stood there already when the answer was given: the talk at a site goes on."""
    return any(
        calls[one].site_id == calls[later].site_id and sent[one].get(place) == sent[later][place]
        for one in range(source + 1)
    )


def _is_part(text: str, answer: str, before: Sequence[str]) -> bool:
    return _ENOUGH <= len(text) < len(answer) and text in answer and not any(text in one for one in before)


def _said(answer: Sequence[ChatMessage]) -> str:
    return "\n".join(str(message["content"]) for message in answer if message.get("content")).strip()


def _texts(values: Mapping[str, Any]) -> Iterator[tuple[_Place, str]]:
    """What another text can be put into: slots, and messages of a conversation."""
    for slot, value in values.items():
        if isinstance(value, str):
            yield (slot, None), value
            continue
        for turn, message in enumerate(value):
            if isinstance(message.get("content"), str):
                yield (slot, turn), message["content"]


def _hidden(values: Mapping[str, Any]) -> Iterator[str]:
    """What else a call was sent: what tools were called with, and messages that are no plain text."""
    for value in values.values():
        for message in () if isinstance(value, str) else value:
            yield from (text for _, arguments in _tools([message]) for text in _strings(arguments))
            if not isinstance(message.get("content"), str):
                yield from _strings(message.get("content"))


def _tools(messages: Sequence[ChatMessage]) -> Iterator[tuple[str, Any]]:
    for message in messages:
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            yield str(function.get("name")), function.get("arguments")


def _key(name: str, arguments: Any) -> str:
    return canonical_json([name, _decoded(arguments)])


def _decoded(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _strings(value: Any) -> Iterator[str]:
    """The texts in a value, those in JSON that is written as a text, too."""
    if isinstance(value, str):
        yield value
        value = _decoded(value)
    if isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(one)
