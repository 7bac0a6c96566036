"""Prompt artifacts as values: production's own, and the same with other demonstrations or other instructions."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from tracemill import client
from tracemill.errors import ConfigError
from tracemill.records import Artifact, Case, Site

Select = Literal["fixed", "nearest"]
Item = dict[str, Any]

PRODUCTION_SOURCE = "production"
"""`source` of demonstrations that production's own prompt carried."""

_SYSTEM = ("system", "developer")


def baseline(site: Site) -> Artifact:
    """What production runs today: rendering it gives the messages that the recovered template gives, byte for byte.

    Constant user/assistant pairs directly before the part that changes from call to call are demonstrations: they
    move into `demonstrations.pool`, where optimizers can exchange them.
    """
    items: list[Item] = [json.loads(json.dumps(item)) for item in site.template.messages]
    start = turn_start(items)
    first = start or 0
    while start is not None and first >= 2 and _is_pair(items[first - 2], items[first - 1]):
        first -= 2
    pool: list[Item] = []
    if start is not None and first < start:
        for place in range(first, start, 2):
            user, assistant = _constant(items[place]), _constant(items[place + 1])
            text = slot_part(items[start:], user["content"])
            pool.append({"messages": [user, assistant], "text": text, "source": PRODUCTION_SOURCE})
        items[first:start] = [{"demonstrations": True}]
    tools = site.template.tools
    return Artifact(
        prompt={
            "format": "tracemill.prompt/1",
            "site_id": site.site_id,
            "model": site.model,
            "adapter": None,
            "messages": items,
            "demonstrations": {"select": "fixed", "k": len(pool), "pool": pool},
            "params": dict(site.params),
            "tools": None if tools is None else [dict(tool) for tool in tools],
        }
    )


def with_demonstrations(
    artifact: Artifact, demos: Sequence[Mapping[str, Any]], select: Select = "fixed", k: int | None = None
) -> Artifact:
    """The artifact with these demonstrations instead of its own.

    "fixed" shows the first `k` in the given order on every call (None: all); "nearest" keeps all of them and shows the
    k most similar to the question. Raises ConfigError where the prompt has no turn that changes from call to call.
    """
    items = [dict(item) for item in artifact.prompt["messages"]]
    if not any(item.get("demonstrations") for item in items):
        start = turn_start(items)
        if start is None:
            raise ConfigError(
                f"site {artifact.prompt.get('site_id')}: its prompt has no user turn with a slot and no conversation, "
                "so there is no place for demonstrations; use an optimizer that changes instructions"
            )
        items.insert(start, {"demonstrations": True})
    shown = len(demos) if k is None else k
    pool = [dict(demo) for demo in (demos[:shown] if select == "fixed" else demos)]
    demonstrations = {"select": select, "k": min(shown, len(pool)), "pool": pool}
    return replace(artifact, prompt={**artifact.prompt, "messages": items, "demonstrations": demonstrations})


def instructions(artifact: Artifact) -> str | None:
    """The system text, its slots written as `{{name}}`; None where the prompt has no system message."""
    item = _system(artifact)
    return None if item is None else _to_text(item["content"], _braces(item["content"]))


def with_instructions(artifact: Artifact, text: str) -> Artifact:
    """The artifact with another system text; `{{name}}` stands where a slot of the system message goes.

    A prompt without a system message gets one at its head. Raises ConfigError where the text lacks a slot that the
    system message has: what production fills in must still reach the model.
    """
    items = [dict(item) for item in artifact.prompt["messages"]]
    item = _system(artifact)
    if item is None:
        items.insert(0, {"role": "system", "content": [text]})
        return replace(artifact, prompt={**artifact.prompt, "messages": items})
    wanted = slots_of(item)
    content = _from_text(text, wanted, _braces(item["content"]))
    missing = sorted(set(wanted) - {piece["slot"] for piece in content if not isinstance(piece, str)})
    if missing:
        raise ConfigError(f"new instructions lack the slots {', '.join(missing)}: write each as {{{{name}}}}")
    place = artifact.prompt["messages"].index(item)
    items[place] = {**item, "content": content}
    return replace(artifact, prompt={**artifact.prompt, "messages": items})


def demo_from_case(artifact: Artifact, case: Case) -> Item:
    """A demonstration of a case: its turn as the prompt renders it, answered with what is known to be right.

    Raises ConfigError where nobody knows the right output, where it is a call of tools (whose results a demonstration
    would have to invent), or where the prompt has no turn to show.
    """
    if case.expected is None:
        raise ConfigError(f"case {case.case_id}: no right output is known, so it cannot be a demonstration")
    if artifact.prompt.get("tools") and _calls_tools(case.expected):
        raise ConfigError(f"case {case.case_id}: the right output calls tools, so it cannot be shown as text")
    items = [item for item in artifact.prompt["messages"] if not item.get("demonstrations")]
    start = turn_start(items)
    if start is None:
        raise ConfigError(f"site {case.site_id}: its prompt has no turn that a demonstration could show")
    try:
        turns = client.render({"messages": items[start:]}, case.values)
    except KeyError as error:
        raise ConfigError(f"case {case.case_id}: {error.args[0]}") from None
    return {
        "messages": [*turns, {"role": "assistant", "content": case.expected}],
        "text": client.question(artifact.prompt, case.values),
        "source": case.trajectory_id,
    }


def pool_of(artifact: Artifact) -> list[Item]:
    """The demonstrations an artifact carries; [] where it has none."""
    return list((artifact.prompt.get("demonstrations") or {}).get("pool", ()))


def slots_of(item: Mapping[str, Any]) -> list[str]:
    """Slot names of one prompt item in order; a name that appears twice is listed twice."""
    return [piece["slot"] for piece in item.get("content") or () if not isinstance(piece, str)]


def turn_start(items: Sequence[Mapping[str, Any]]) -> int | None:
    """Where the last run of slotted or conversation items begins: what one call adds to the constant prompt."""
    turns = [place for place, item in enumerate(items) if _is_turn(item)]
    if not turns:
        return None
    start = turns[-1]
    while start - 1 in turns:
        start -= 1
    return start


def slot_part(turn: Sequence[Mapping[str, Any]], text: str) -> str:
    """What of a rendered user text fills the slots of the turn: the text that nearness is measured on.

    The whole text where it does not fit the turn's user message.
    """
    for item in reversed(turn):
        if item.get("role") == "user" and slots_of(item):
            pattern = "".join(re.escape(piece) if isinstance(piece, str) else "(.*?)" for piece in item["content"])
            match = re.fullmatch(pattern, text, re.DOTALL)
            return " ".join(match.groups()) if match else text
    return text


def _calls_tools(output: str) -> bool:
    """Whether an output is the JSON of tool calls, which stands for an answer without text."""
    if not output.startswith("["):
        return False
    try:
        calls = json.loads(output)
    except ValueError:
        return False
    return bool(calls) and all(isinstance(call, dict) and "function" in call for call in calls)


def _is_turn(item: Mapping[str, Any]) -> bool:
    return bool(item.get("conversation")) or (bool(slots_of(item)) and item.get("role") not in _SYSTEM)


def _is_pair(user: Mapping[str, Any], assistant: Mapping[str, Any]) -> bool:
    return (
        user.get("role") == "user"
        and assistant.get("role") == "assistant"
        and not slots_of(user)
        and not slots_of(assistant)
        and user.get("content") is not None
        and assistant.get("content") is not None
        and "tool_calls" not in assistant
    )


def _constant(item: Mapping[str, Any]) -> Item:
    return {**{key: value for key, value in item.items() if key != "content"}, "content": "".join(item["content"])}


def _system(artifact: Artifact) -> Mapping[str, Any] | None:
    return next((item for item in artifact.prompt["messages"] if item.get("role") in _SYSTEM), None)


def _braces(content: Sequence[Any]) -> int:
    """How many braces mark a slot, so that constant text which looks like a mark stays constant text."""
    names = [piece["slot"] for piece in content if not isinstance(piece, str)]
    braces = 2
    while _from_text(_to_text(content, braces), names, braces) != _merged(content):
        braces += 1
    return braces


def _mark(name: str, braces: int) -> str:
    return "{" * braces + name + "}" * braces


def _to_text(content: Sequence[Any], braces: int) -> str:
    return "".join(piece if isinstance(piece, str) else _mark(piece["slot"], braces) for piece in content)


def _from_text(text: str, names: Sequence[str], braces: int) -> list[Any]:
    if not names:
        return [text] if text else []
    marks = {_mark(name, braces): name for name in names}
    pieces = re.split("(" + "|".join(re.escape(mark) for mark in marks) + ")", text)
    return [{"slot": marks[piece]} if piece in marks else piece for piece in pieces if piece]


def _merged(content: Sequence[Any]) -> list[Any]:
    merged: list[Any] = []
    for piece in content:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        elif piece != "":
            merged.append(piece)
    return merged
