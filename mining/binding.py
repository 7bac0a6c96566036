"""Binding: the slot values with which a template renders to messages that were logged."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tracemill.client import render
from tracemill.ids import PSEUDONYM
from tracemill.records import ChatMessage, Template

KINDS = r"(?:card|email|iban|id|ip|name|phone|secret|user|x_[a-z0-9_]{1,24})"
"""Pattern of the kinds of pseudonyms, as they begin the names of slots that stand for one."""
_UNBOUND = re.compile(rf"{KINDS}_\d+")
_LONGEST = 37
"""Characters of the longest pseudonym."""
Content = Sequence[str | Mapping[str, Any]]


def extract(content: Content, text: str) -> dict[str, str] | None:
    """Slot values with which `content` renders to exactly `text`; None where there are none.

    Where several fit, every slot but the last ends at the first place where the text goes on as the template does. A
    slot that stands for a pseudonym (`email_1`) takes a pseudonym only.
    """
    if len(content) == 1 and isinstance(content[0], str):
        return {} if content[0] == text else None
    last = len(content) - 1
    while last >= 0 and (isinstance(piece := content[last], str) or _stands(piece)):
        last -= 1
    values: dict[str, str] = {}
    at, i = 0, 0
    while i < len(content):
        piece = content[i]
        if isinstance(piece, str) or piece["slot"] in values or _stands(piece):
            at = _passed(piece, text, at, values)
            if at < 0:
                return None
        elif i == last:
            return _ended(piece["slot"], content[i + 1 :], text, at, values)
        else:
            # What follows a slot is fixed, so no text is looked at twice.
            follow = content[i + 1]
            end = text.find(follow, at) if isinstance(follow, str) else at
            if end < 0:
                return None
            values[piece["slot"]] = text[at:end]
            at = end
        i += 1
    return values if at == len(text) else None


def _passed(piece: str | Mapping[str, Any], text: str, at: int, values: dict[str, str]) -> int:
    """Where a piece ends that begins at `at` and is known, or stands for a pseudonym; -1 where it is not there."""
    if not isinstance(piece, str):
        known = values.get(piece["slot"])
        if known is None:
            hit = PSEUDONYM.match(text, at)
            if hit is None:
                return -1
            values[piece["slot"]] = hit.group()
            return hit.end()
        piece = known
    return at + len(piece) if text.startswith(piece, at) else -1


def _ended(name: str, rest: Content, text: str, at: int, values: dict[str, str]) -> dict[str, str] | None:
    """The values where slot `name`, the last, begins at `at`: it is as long as what stands after it allows."""
    if len(rest) < 2 and (not rest or isinstance(rest[0], str)):
        ending = str(rest[0]) if rest else ""
        end = len(text) - len(ending)
        return {**values, name: text[at:end]} if end >= at and text.endswith(ending) else None
    own = fixed = stand = 0
    for piece in rest:
        if not isinstance(piece, str) and piece["slot"] == name:
            own += 1
        elif isinstance(piece, str) or piece["slot"] in values:
            fixed += len(piece if isinstance(piece, str) else values[piece["slot"]])
        else:
            stand += 1
    for others in range(_LONGEST * stand + 1):
        length, uneven = divmod(len(text) - at - fixed - others, own + 1)
        if length < 0:
            return None
        found, place = {**values, name: text[at : at + length]}, at + length
        for piece in rest:
            place = -1 if uneven else _passed(piece, text, place, found)
            if place < 0:
                break
        if place == len(text):
            return found
    return None


@lru_cache(maxsize=4096)
def _is_unbound(name: str) -> bool:
    return _UNBOUND.fullmatch(name) is not None


def _stands(piece: Mapping[str, Any]) -> bool:
    """Whether a slot stands for a pseudonym."""
    return _is_unbound(piece["slot"])


def fixed_items(template: Template) -> tuple[Sequence[Mapping[str, Any]], bool, Sequence[Mapping[str, Any]]]:
    """The items before the conversation, whether there is one, and the items after it."""
    for i, item in enumerate(template.messages):
        if item.get("conversation"):
            return template.messages[:i], True, template.messages[i + 1 :]
    return template.messages, False, ()


def bind_item(item: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, str] | None:
    """Slot values of one template item for one message; None where it does not render to it."""
    text = message.get("content")
    if not isinstance(text, str):
        return None
    if {k: v for k, v in item.items() if k != "content"} != {k: v for k, v in message.items() if k != "content"}:
        return None
    return extract(item["content"], text)


def bind(template: Template, messages: Sequence[ChatMessage]) -> dict[str, Any] | None:
    """Slot values (and `conversation`) with which the template renders to exactly `messages`; None where none do."""
    before, open_ended, after = fixed_items(template)
    fixed = len(before) + len(after)
    if len(messages) < fixed or (len(messages) > fixed and not open_ended):
        return None
    tail = messages[len(messages) - len(after) :]
    values: dict[str, Any] = {}
    for item, message in [*zip(before, messages, strict=False), *zip(after, tail, strict=True)]:
        found = bind_item(item, message)
        if found is None or any(values.get(name, value) != value for name, value in found.items()):
            return None
        values.update(found)
    if open_ended:
        values["conversation"] = [dict(turn) for turn in messages[len(before) : len(messages) - len(after)]]
    # The contract is checked, not assumed: what is bound renders to what was sent.
    return values if render({"messages": template.messages}, values) == list(messages) else None
