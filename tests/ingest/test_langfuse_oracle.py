"""Messages of real Langfuse exports against the messages that Langfuse itself reads out of them (`*.chatml.json`)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tracemill import ingest
from tracemill.chat import canonical_role
from tracemill.ingest.documents import unwrap

pytestmark = pytest.mark.data
FOLDER = Path(os.environ.get("TRACEMILL_DATA") or "/nonexistent") / "langfuse"
EXPORTS = sorted(path.name.removesuffix(".chatml.json") for path in FOLDER.glob("*.chatml.json"))

Plain = tuple[str, str, list[tuple[str, str | None, Any]], str]
"""Role, text, calls (id, name, arguments) and the id of the call that is answered."""


def alike(message: dict[str, Any]) -> Plain | None:
    """A message of either side, with what only one side can express taken away; None for what is no message.

    * The oracle writes Gemini's role "model", and a Gemini tool result (which has no id) as a user's JSON text.
    * It decodes a tool's JSON text in some places and leaves it in others: both sides are decoded.
    * It gives content blocks of Anthropic as they are, canonical parts as text and calls.
    * It leaves a `gen_ai.choice` event wrapped in "json", puts fields that are no message's into "json", the call's
      tool definitions onto every message (they are compared apart), and "" where no id, text or call is.
    """
    if isinstance(message.get("json"), dict) and isinstance(message["json"].get("message"), dict):
        message = message["json"]["message"]
    if "role" not in message:
        return None
    role, content = canonical_role(message["role"]), message.get("content")
    calls = [(c.get("id") or "", c["name"], unwrap(c["arguments"])) for c in message.get("tool_calls") or ()]
    answers = message.get("tool_call_id") or ""
    if role == "tool" or (role == "user" and isinstance(content, str) and content[:1] == "{"):
        role, content = ("tool", content) if answers else ("user", content)
        text = json.dumps(unwrap(content), sort_keys=True) if not isinstance(unwrap(content), str) else str(content)
    elif isinstance(content, list):
        text = "\n".join(block["text"] for block in content if block["type"] == "text")
        calls += [(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
    else:
        text = content or ""
    return role, text, calls, answers


class Export:
    """The rows that an export becomes."""

    def __init__(self, path: Path) -> None:
        batches = list(ingest.batches(ingest.find([path]), key=b"k" * 32, now_ns=1))
        rows = {n: [r for b in batches for r in b.tables[n].to_pylist()] for n in ("spans", "messages", "quarantine")}
        self.messages = {row["message_id"]: row for row in rows["messages"]}
        self.spans = {row["span_id"]: row for row in rows["spans"]}
        self.quarantine = rows["quarantine"]

    def said(self, span: dict[str, Any], side: str) -> list[Plain]:
        ids = [*(span["system_ids"] or ()), *(span["input_ids"] or ())] if side == "input" else span["output_ids"] or ()
        found = []
        for row in (self.messages[i] for i in ids):
            message: dict[str, Any] = {"role": row["role"], "content": "", "tool_calls": []}
            for part in json.loads(row["parts"]):
                if part["type"] == "tool_call":
                    message["tool_calls"].append({k: part[k] for k in ("id", "name", "arguments")})
                elif part["type"] == "tool_call_response":
                    message |= {"content": part["response"], "tool_call_id": part["id"]}
                    if part["id"] is None:
                        message["content"] = json.dumps(part["response"])
                else:
                    message["content"] += part["content"]
            found.append(alike(message))
        return [message for message in found if message is not None]

    def tools(self, span: dict[str, Any]) -> set[str]:
        held = self.messages.get(span["tool_definitions_id"])
        return {part["function"]["name"] for part in json.loads(held["parts"])} if held else set()


@pytest.mark.parametrize(
    "name",
    EXPORTS or [pytest.param("", marks=pytest.mark.skip("TRACEMILL_DATA does not name the folder with the real logs"))],
)
def test_the_messages_of_an_export_are_those_that_langfuse_shows(name: str) -> None:
    oracle = json.loads((FOLDER / f"{name}.chatml.json").read_text())
    document = json.loads((FOLDER / f"{name}.trace.json").read_text())
    raw = {observation["id"]: observation for observation in document["observations"]}
    export = Export(FOLDER / f"{name}.trace.json")
    assert export.quarantine == []
    assert len(export.spans) == len(raw) + 1  # the trace itself
    compared = 0
    for observation, sides in oracle.items():
        span = export.spans[observation]
        for side, shown in sides.items():
            where = f"{span['kind']} {span['name']!r} {side}"
            if span["kind"] == "tool":
                compared += _tool(span, side, shown, raw[observation], where)
            elif shown["success"]:
                expected = [message for message in map(alike, shown["data"]) if message is not None]
                found = export.said(span, side)
                if found[:1] and found[0][0] == "system" and expected[0][0] != "system":
                    # Langfuse does not show the instructions that an answer of the Responses API repeats.
                    assert found.pop(0)[1] == json.loads(raw[observation]["output"])["instructions"], where
                assert found == expected, where
                tools = {tool["name"] for message in shown["data"] for tool in message.get("tools", ())}
                assert tools <= export.tools(span), where
                compared += 1
            elif (
                span["kind"] == "llm"
                and isinstance(raw[observation][side], str)
                and unwrap(raw[observation][side]) == raw[observation][side]
            ):
                # Where Langfuse shows plain text, it is what was asked or answered.
                (message,) = export.said(span, side)
                assert message[1] == raw[observation][side], where
                compared += 1
    assert compared > 0 or name.startswith("crewai")


def _tool(span: dict[str, Any], side: str, shown: dict[str, Any], raw: dict[str, Any], where: str) -> int:
    """A tool's arguments and result are columns; what the oracle shows of them stands there."""
    if side == "input":
        arguments = unwrap(raw["input"])
        if isinstance(arguments, dict):
            assert json.loads(span["tool_args"]) == arguments.get("input", arguments), where
        return 1
    if not shown["success"]:
        assert span["tool_result"] == raw["output"], where
        return 1
    (message,) = shown["data"]
    if "tool_call_id" in message:
        assert (span["tool_call_id"], span["tool_name"]) == (message["tool_call_id"], message["name"]), where
    held = message.get("json", {}) if "content" not in message else message["content"]
    if "content" in message and "role" not in message:
        held = {"content": held}
    assert held == {} or json.loads(span["tool_result"]) == held, where
    return 1
