"""Take up what tracemill published: `live_prompt("…/published/production")` inside an agent.

Standard library only; imports nothing else of tracemill, so an agent can vendor this one file. It is also the one
place where a prompt artifact becomes chat messages: tuning, the gate and production all render through `render`.

A prompt artifact is JSON (`prompt.json` in a published bundle):

    {"format": "tracemill.prompt/1", "site_id": "…", "model": "…", "adapter": null,
     "messages": [{"role": "system", "content": ["You route tickets for ", {"slot": "company"}, "."]},
                  {"demonstrations": true},
                  {"role": "user", "content": [{"slot": "ticket"}]},
                  {"conversation": true}],
     "demonstrations": {"select": "fixed" | "nearest", "k": 4,
                        "pool": [{"messages": [{"role": "user", "content": "…"},
                                               {"role": "assistant", "content": "…"}],
                                  "text": "what nearness is measured on", "source": "trajectory id"}]},
     "params": {"temperature": 0.0, "max_tokens": 16}, "tools": null}
"""

import json
import re
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

_WORD = re.compile(r"\w+")


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def nearest(pool: Sequence[Mapping[str, Any]], text: str, k: int) -> list[Mapping[str, Any]]:
    """The k demonstrations whose words overlap most (Jaccard) with `text`, most similar last.

    The last demonstration stands next to the question, where small models look most. Ties keep pool order.
    """
    words = _words(text)

    def overlap(demo: Mapping[str, Any]) -> float:
        other = _words(str(demo["text"]))
        return len(words & other) / (len(words | other) or 1)

    return sorted(pool, key=overlap, reverse=True)[:k][::-1]


def _fill(content: Sequence[Any] | None, values: Mapping[str, Any]) -> str | None:
    if content is None:  # an assistant turn that only calls tools
        return None
    pieces = []
    for piece in content:
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        slot = piece["slot"]
        if slot not in values:
            raise KeyError(f"the prompt has a slot {slot!r} that was given no value; given: {sorted(values)}")
        pieces.append(str(values[slot]))
    return "".join(pieces)


def render(prompt: Mapping[str, Any], values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Chat messages (OpenAI shape) of a prompt artifact with its slots filled.

    `values` maps slot names to text, and `conversation`, where the prompt has one, to a list of chat messages.
    Raises KeyError naming a slot that got no value.
    """
    demos = prompt.get("demonstrations") or {}
    messages: list[dict[str, Any]] = []
    for item in prompt["messages"]:
        if item.get("demonstrations"):
            pool = demos.get("pool", [])
            if demos.get("select") == "nearest":
                pool = nearest(pool, question(prompt, values), int(demos["k"]))
            messages.extend(dict(turn) for demo in pool for turn in demo["messages"])
        elif item.get("conversation"):
            if "conversation" not in values:
                raise KeyError("the prompt continues a conversation: pass conversation=[…messages…]")
            messages.extend(dict(turn) for turn in values["conversation"])
        else:
            message = {key: value for key, value in item.items() if key != "content"}
            message["content"] = _fill(item["content"], values)
            messages.append(message)
    return messages


def question(prompt: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """The text that nearness of demonstrations is measured on: the slot values of the last slotted message."""
    for item in reversed(prompt["messages"]):
        slots = [piece["slot"] for piece in item.get("content") or () if not isinstance(piece, str)]
        if slots:
            return " ".join(str(values.get(slot, "")) for slot in slots)
    turns = values.get("conversation") or [{}]
    return str(turns[-1].get("content") or "")


@dataclass(frozen=True)
class LivePrompt:
    """A published prompt: its artifact, and the bundle that it came from."""

    artifact: Mapping[str, Any]
    bundle_id: str | None

    @property
    def model(self) -> str | None:
        """The model to call: the adapter's name where weights were promoted, else the base model's."""
        return self.artifact.get("adapter") or self.artifact.get("model")

    @property
    def params(self) -> Mapping[str, Any]:
        return self.artifact.get("params") or {}

    @property
    def tools(self) -> list[dict[str, Any]] | None:
        """What to offer the model to call, described as published; None where the site has no tools."""
        tools = self.artifact.get("tools")
        return [dict(tool) for tool in tools] if tools else None

    def messages(self, **values: Any) -> list[dict[str, Any]]:
        """Chat messages to send, slots filled with `values`."""
        return render(self.artifact, values)


def live_prompt(channel: str | Path, *, agent: str | None = None, timeout_s: float = 5.0) -> LivePrompt:
    """What a channel points to now. `channel` is a published folder or URL, such as `…/published/production`.

    Reads `channel.json` (the pointer) and the `prompt.json` of its bundle. Where the bundle has prompts of several
    agents, that of `agent`, by its name or the id of its call site; KeyError, with the names that there are, where it
    has none. Raises OSError where nothing is published.
    """
    base = str(channel).rstrip("/")
    pointer = json.loads(_read(f"{base}/channel.json", timeout_s))
    place = pointer["prompt"]
    if pointer.get("agents"):
        files = json.loads(_read(_beside(base, pointer["agents"]), timeout_s))
        if agent not in files:
            raise KeyError(
                f"{base} has prompts of several agents and none of {agent!r}: give agent=…, of {sorted(files)}"
            )
        place = place.removesuffix("prompt.json") + files[agent]
    artifact = json.loads(_read(_beside(base, place), timeout_s))
    return LivePrompt(artifact=artifact, bundle_id=pointer.get("bundle_id"))


def _beside(base: str, path: str) -> str:
    # Web servers and object stores need not understand "..": resolve it before asking.
    return urljoin(f"{base}/", path) if base.startswith(("http://", "https://")) else f"{base}/{path}"


def _read(location: str, timeout_s: float) -> str:
    if location.startswith(("http://", "https://")):
        with urllib.request.urlopen(location, timeout=timeout_s) as answer:
            return str(answer.read().decode("utf-8"))
    return Path(location).read_text(encoding="utf-8")
