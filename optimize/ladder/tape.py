"""A logged episode as a tape that plays its tools' results, as long as a replay makes the calls that the log knows."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracemill.ids import canonical_json
from tracemill.records import ChatMessage, Completion, Episode

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One tool call of the log."""

    turn: int
    place: int
    name: str
    exact: str
    alike: str
    result: ChatMessage | None
    """The tool message that came back; None where the log has none, as after the last call of an episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One logged call of the model, and what followed it."""

    at: int
    values: Mapping[str, Any]
    text: str
    calls: tuple[Recorded, ...]
    follows: tuple[ChatMessage, ...] | None
    """What came with the tools' results before the next call, such as a user's words; None where the next prompt does
    not go on from this one, so that it holds for this very answer only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What comes of an answer: messages to go on with, other values to go on with, or the end."""

    messages: tuple[ChatMessage, ...] = ()
    values: Mapping[str, Any] | None = None
    ended: bool = False
    astray: str | None = None
    """Why the log cannot tell how it would have gone on."""


def turns(episode: Episode) -> tuple[Turn, ...]:
    """The calls of an episode with their tools' results, found in the prompt of the call after each."""
    made: list[Turn] = []
    for at, call in enumerate(episode.calls):
        asked = [tool for message in call.answer for tool in message.get("tool_calls") or ()]
        tail = None if at + 1 == len(episode.calls) else _tail(call.values, episode.calls[at + 1].values)
        results = [message for message in tail or () if message.get("role") == "tool"]
        made.append(
            Turn(
                at=at,
                values=call.values,
                text="\n".join(str(message["content"]) for message in call.answer if message.get("content")),
                calls=tuple(
                    Recorded(
                        turn=at,
                        place=place,
                        name=name_of(tool),
                        exact=_key(tool, _arguments(tool)),
                        alike=_key(tool, normal(_arguments(tool))),
                        result=_result(tool, place, results, len(asked)),
                    )
                    for place, tool in enumerate(asked)
                ),
                follows=None if tail is None else tuple(m for m in tail if m.get("role") != "tool"),
            )
        )
    return tuple(made)


@dataclass(slots=True, kw_only=True)
class Tape:
    """Plays an episode call by call.

    A call of a tool goes on where it is the next one of the log that may have changed anything: `exact` as long as
    each answer makes the very calls of the log (names, and arguments as canonical JSON), equivalent where they are the
    same but for blanks, the writing of numbers, arguments that are null, and the order within one answer. Tools in
    `read_only` change nothing: they may be called again, earlier, later or not at all, where the log has one result for
    such a call. A text in place of tool calls ends the episode, unless the log goes on with what others said.
    """

    turns: tuple[Turn, ...]
    read_only: frozenset[str] = frozenset()
    exact: bool = True
    place: int = 0
    _used: set[tuple[int, int]] = field(default_factory=set)

    def follow(self, answer: Completion) -> Next:
        return self._called(answer) if answer.tool_calls else self._said(answer)

    def _said(self, answer: Completion) -> Next:
        turn, text = self.turns[self.place], answer.text or ""
        if self.place + 1 == len(self.turns) or turn.calls:
            if any(one.follows is None or one.follows for one in self.turns[self.place : -1]):
                return Next(astray="it ended the episode, and the log goes on with what others said")
            self.exact &= not turn.calls
            return Next(ended=True)
        if text != turn.text:
            if normal(text) != normal(turn.text):
                return Next(astray="it said something else, and the log goes on from what was said")
            self.exact = False
        return self._on(answer, ())

    def _called(self, answer: Completion) -> Next:
        turn = self.turns[self.place]
        found: list[Recorded] = []
        for number, call in enumerate(answer.tool_calls):
            recorded = self._find(call)
            if recorded is None:
                return Next(astray=f"the log has no such call of {name_of(call)} here")
            self.exact &= (recorded.turn, recorded.place) == (turn.at, number)
            self.exact &= recorded.exact == _key(call, _arguments(call))
            found.append(recorded)
        self.exact &= len(found) == len(turn.calls)
        if all(one.result is None and one.turn + 1 == len(self.turns) for one in found):
            return Next(ended=True)
        if turn.follows is None and turn is not self.turns[-1]:
            if [(one.turn, one.place) for one in found] != [(one.turn, one.place) for one in turn.calls]:
                return Next(astray="it made other calls, and the log's next prompt holds for those of the log only")
            return self._on(answer, ())
        missing = next((one for one in found if one.result is None), None)
        if missing is not None:
            return Next(astray=f"the log has no result of {missing.name}")
        results = tuple(
            {**(one.result or {}), "tool_call_id": call.get("id")}
            for one, call in zip(found, answer.tool_calls, strict=True)
        )
        turn = self.turns[self.place]  # where what was found has come to
        if turn.calls and all((one.turn, one.place) in self._used for one in turn.calls):
            return self._on(answer, results)
        return Next(messages=(spoken(answer), *results))

    def _on(self, answer: Completion, results: tuple[ChatMessage, ...]) -> Next:
        """To the next call of the log."""
        turn = self.turns[self.place]
        self.place += 1
        if turn.follows is None:
            return Next(values=self.turns[self.place].values)
        return Next(messages=(spoken(answer), *results, *turn.follows))

    def _find(self, call: Mapping[str, Any]) -> Recorded | None:
        arguments = _arguments(call)
        exact, alike = _key(call, arguments), _key(call, normal(arguments))
        for turn in self.turns[self.place :]:
            left = [one for one in turn.calls if (one.turn, one.place) not in self._used]
            same = [one for one in left if one.exact == exact] or [one for one in left if one.alike == alike]
            if same:
                self._used.add((same[0].turn, same[0].place))
                self.place = turn.at
                return same[0]
            changing = any(one.name not in self.read_only for one in left)
            if changing or not turn.calls or turn.follows is None or turn.follows:
                break
        if name_of(call) not in self.read_only:
            return None
        again = [one for turn in self.turns for one in turn.calls if one.alike == alike and one.result is not None]
        # A result that was not the same every time hangs on what was done in between.
        said = {canonical_json(one.result["content"]) for one in again if one.result is not None}
        return again[0] if len(said) == 1 else None


def spoken(answer: Completion) -> ChatMessage:
    """An answer as the assistant's turn of the conversation that goes on."""
    message: ChatMessage = {"role": "assistant", "content": answer.text}
    if answer.tool_calls:
        message["tool_calls"] = [dict(call) for call in answer.tool_calls]
    return message


def normal(value: Any) -> Any:
    """What is the same for a tool is equal: blanks, the writing of numbers, arguments that are null."""
    if isinstance(value, str):
        text = " ".join(value.split())
        return normal(float(text)) if _NUMBER.fullmatch(text) and len(text) < 16 else text
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {key: normal(one) for key, one in value.items() if one is not None}
    return [normal(one) for one in value] if isinstance(value, list | tuple) else value


def _tail(values: Mapping[str, Any], later: Mapping[str, Any]) -> list[ChatMessage] | None:
    """What the later call's conversation has beyond this one's and its answer; None where it is another one."""
    before, after = values.get("conversation"), later.get("conversation")
    if not isinstance(before, list) or not isinstance(after, list) or after[: len(before)] != before:
        return None
    if {**values, "conversation": None} != {**later, "conversation": None}:
        return None
    tail = after[len(before) :]
    while tail and tail[0].get("role") == "assistant":
        tail = tail[1:]
    return None if any(message.get("role") == "assistant" for message in tail) else tail


def _result(tool: Mapping[str, Any], place: int, results: Sequence[ChatMessage], n: int) -> ChatMessage | None:
    named = [message for message in results if message.get("tool_call_id") == tool.get("id")]
    if len(named) == 1:
        return named[0]
    return results[place] if len(results) == n else None


def name_of(call: Mapping[str, Any]) -> str:
    return str((call.get("function") or {}).get("name"))


def _arguments(call: Mapping[str, Any]) -> Any:
    raw = (call.get("function") or {}).get("arguments")
    if not isinstance(raw, str):
        return raw
    try:
        return json.loads(raw or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return raw


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def key_of(call: Mapping[str, Any]) -> str:
    """What calls of a tool have in common that are the same for it."""
    return _key(call, normal(_arguments(call)))


def _key(call: Mapping[str, Any], arguments: Any) -> str:
    return canonical_json([name_of(call), {} if arguments is None else arguments])
