"""What other programs find in an export: conversations in order, sub-agents apart, nothing that may not be learned."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tracemill.ids import content_id
from tracemill.ingest.exports import EXPORTERS, Episode
from tracemill.ingest.reader import Message
from tracemill.schema import SPANS, TRANSITIONS

TARGETS = {exporter.name: exporter for exporter in EXPORTERS}


def say(role: str, text: str | None = None, *parts: dict[str, Any]) -> Message:
    return role, None, [*([{"type": "text", "content": text}] if text is not None else []), *parts]


def asks(call_id: str, name: str = "look") -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": '{"of": 1}'}


def thinks(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "content": text}


def told(call_id: str, response: Any) -> Message:
    return "tool", None, [{"type": "tool_call_response", "id": call_id, "response": response}]


class Story:
    """Spans of one trajectory as they are told."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.spans: list[dict[str, Any]] = []
        self.transitions: list[dict[str, Any]] = []

    def _ids(self, messages: Sequence[Message]) -> list[str]:
        found = [content_id(list(message)) for message in messages]
        self.messages.update(zip(found, messages, strict=True))
        return found

    def span(self, kind: str, parent: str | None = None, **columns: Any) -> str:
        span_id = f"{len(self.spans) + 1:016x}"
        row = dict.fromkeys(SPANS.names) | {"trace_id": "t", "span_id": span_id, "kind": kind, "status": "ok"}
        self.spans.append(row | {"seq": len(self.spans), "parent_span_id": parent, "agent_name": "desk"} | columns)
        return span_id

    def call(self, prompt: Sequence[Message], answer: Message, parent: str | None = None, **columns: Any) -> str:
        trainable = columns.pop("trainable", True)
        system = [one for one in prompt if one[0] == "system"]
        read = {
            "system_ids": self._ids(system) or None,
            "input_ids": self._ids(prompt[len(system) :]),
            "output_ids": self._ids([answer]),
        }
        span_id = self.span("llm", parent, **read, **columns)
        step = {"trajectory_id": "t", "step": len(self.transitions), "span_id": span_id, "trainable": trainable}
        self.transitions.append(dict.fromkeys(TRANSITIONS.names) | step | read)
        return span_id

    def told(self, target: str) -> list[dict[str, Any]]:
        trajectory = {"trajectory_id": "t", "session_id": "s", "task_key": None, "task_group": "g"}
        episode = Episode(
            trajectory=trajectory,
            spans=self.spans,
            transitions=self.transitions,
            scores=(),
            messages=self.messages,
        )
        return [json.loads(json.dumps(record)) for record in TARGETS[target].records(episode)]


SYSTEM, USER = say("system", "You are a desk."), say("user", "How many?")


def delegation() -> Story:
    """An agent that has another one look, whose prompts repeat answers without their reasoning."""
    story = Story()
    asking = say("assistant", None, thinks("hm"), asks("c1", "delegate"))
    story.call([SYSTEM, USER], asking)
    tool = story.span("tool", tool_name="delegate", tool_call_id="c1", tool_args='{"of": 1}', tool_result="three")
    helper = story.span("agent", tool, name="helper")
    story.call([say("user", "Count.")], say("assistant", "three"), helper, agent_name="helper")
    story.call(
        [SYSTEM, USER, say("assistant", None, asks("c1", "delegate")), told("c1", "three")], say("assistant", "3.")
    )
    return story


def test_answers_repeated_in_other_words_stay_one_conversation() -> None:
    (document,) = delegation().told("atif")
    assert [(step["source"], step["message"]) for step in document["steps"]] == [
        ("system", "You are a desk."),
        ("user", "How many?"),
        ("agent", ""),
        ("agent", "3."),
    ]
    assert document["steps"][2]["reasoning_content"] == "hm"


def test_a_sub_agent_is_a_document_of_its_own_that_its_call_refers_to() -> None:
    (document,) = delegation().told("atif")
    (below,) = document["subagent_trajectories"]
    assert (below["agent"]["name"], [step["message"] for step in below["steps"]]) == ("helper", ["Count.", "three"])
    (result,) = document["steps"][2]["observation"]["results"]
    assert result["subagent_trajectory_ref"] == [{"trajectory_id": below["trajectory_id"]}]
    assert (result["source_call_id"], result["content"]) == ("c1", "three")


def test_tools_that_nobody_asked_for_are_steps_without_a_model() -> None:
    story = Story()
    story.span("tool", tool_name="fetch", tool_args='{"url": "x"}', tool_result="page")
    story.call([USER], say("assistant", "One."))
    (document,) = story.told("atif")
    first, *_ = document["steps"]
    assert (first["source"], first["llm_call_count"]) == ("agent", 0)
    assert [(call["function_name"], call["arguments"]) for call in first["tool_calls"]] == [("fetch", {"url": "x"})]
    assert [result["content"] for result in first["observation"]["results"]] == ["page"]
    assert "metrics" not in first


def test_answers_that_only_stood_in_the_prompt_are_copied_context() -> None:
    story = Story()
    story.call([USER, say("assistant", "An example."), USER], say("assistant", "One."))
    (document,) = story.told("atif")
    assert [step.get("is_copied_context") for step in document["steps"]] == [None, True, None, None]
    (line,) = story.told("openai")
    assert [message.get("weight") for message in line["messages"]] == [None, 0, None, None]


def test_openai_has_each_conversation_once_and_weighs_what_may_not_be_learned_from() -> None:
    story = delegation()
    story.transitions[0]["trainable"] = False
    lines = story.told("openai")
    assert [[message["role"] for message in line["messages"]] for line in lines] == [
        ["system", "user", "assistant", "tool", "assistant"],
        ["user", "assistant"],
    ]
    assert [message.get("weight") for message in lines[0]["messages"]] == [None, None, 0, None, None]


def test_trl_leaves_out_what_may_not_be_learned_from() -> None:
    story = delegation()
    story.transitions[0]["trainable"] = False
    rows = story.told("trl")
    assert [(row["step"], row["completion"][0]["content"]) for row in rows] == [(1, "three"), (2, "3.")]
    assert rows[1]["prompt"][2]["tool_calls"][0]["function"] == {"name": "delegate", "arguments": '{"of": 1}'}
    assert rows[0]["reward"] is None


def test_a_trajectory_without_calls_has_spans_and_no_conversation() -> None:
    story = Story()
    story.span("chain", name="step")
    assert (story.told("openai"), story.told("trl")) == ([], [])
    (document,) = story.told("atif")
    assert document["steps"] == []
    assert [span["name"] for span in document["extra"]["tracemill"]["spans"]] == ["step"]
    assert len(story.told("otlp")) == 1


@pytest.mark.parametrize("make", [delegation])
def test_documents_are_valid_for_atifs_own_models(make: Any) -> None:
    models = pytest.importorskip("atif", reason="the package atif has the models of ATIF; pip install atif")
    for document in make().told("atif"):
        models.Trajectory.model_validate(document)
