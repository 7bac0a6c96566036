"""Binding: the slot values with which a template renders to messages that were logged."""

from collections.abc import Mapping, Sequence
from typing import Any

from tracemill.client import render
from tracemill.mining.align import extract
from tracemill.records import ChatMessage, Template


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
