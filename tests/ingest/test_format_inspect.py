"""Inspect logs: archives and documents, contents kept apart, epochs, sub-agents and scores."""

import json
from typing import Any

import pytest
from inspect_logs import (
    ANSWER,
    ASKING,
    DONE,
    EVAL,
    SECOND,
    SYSTEM,
    USER,
    archive,
    begin,
    end,
    log,
    model,
    sample,
    usage,
)


def test_a_sample_is_a_trajectory_of_its_events(take: Any) -> None:
    taken = take(archive(sample()), name="log.eval")
    root, solver, first, tool, second, info = taken.spans
    assert [span["kind"] for span in taken.spans] == ["agent", "chain", "llm", "tool", "llm", "event"]
    assert {span["source_format"] for span in taken.spans} == {"inspect"}
    assert (root["name"], root["agent_name"], root["task_key"], root["session_id"]) == (
        "desk/refunds",
        "react",
        "desk/refunds/s1",
        "set-1",
    )
    assert (root["status"], root["end_ns"] - root["start_ns"]) == ("ok", 9_000_000_000)
    assert json.loads(root["attributes"])["metadata"] == {"level": 2}
    assert [span["parent_span_id"] for span in taken.spans] == [
        None,
        root["span_id"],
        "solver",
        "solver",
        "solver",
        root["span_id"],
    ]
    assert (first["span_id"], first["provider"], first["model_requested"], first["model"]) == (
        "call-1",
        "openai",
        "gpt-4o",
        "gpt-4o-2024",
    )
    assert json.loads(first["params"]) == {"temperature": 0.5, "tool_choice": "auto"}
    assert json.loads(first["attributes"]) == {"role": "main", "retries": 1}
    assert taken.texts(taken.prompt(first)) == ["You are an operator.", "List the files."]
    assert taken.said(first["output_ids"]) == [
        ("assistant", [{"arguments": {"cmd": "ls"}, "id": "c1", "name": "bash", "type": "tool_call"}])
    ]
    assert first["finish_reasons"] == ["stop"]
    assert second["input_ids"][: len(first["input_ids"])] == first["input_ids"]
    assert len(second["input_ids"]) == 3
    assert (tool["tool_name"], tool["tool_call_id"], tool["tool_args"], tool["tool_result"]) == (
        "bash",
        "c1",
        '{"cmd": "ls"}',
        "a.txt\n",
    )
    assert tool["end_ns"] - tool["start_ns"] == 1_000_000_000
    assert (info["name"], json.loads(info["attributes"])) == ("info", {"data": "done"})
    assert {span["agent_name"] for span in taken.spans} == {"react"}
    (score,) = taken.scores
    assert (score["name"], score["value"], score["label"], score["source"]) == ("match", 1.0, "C", "env")
    assert score["target_id"] == root["trace_id"]
    assert json.loads(score["evidence"]) == {"answer": "a.txt", "target": "a.txt"}
    assert (solver["start_ns"], solver["end_ns"]) == (root["start_ns"], root["start_ns"] + 7_000_000_000)
    assert taken.quarantine == []


def test_a_document_gives_the_same_spans_as_the_archive(take: Any) -> None:
    names = ("trace_id", "span_id", "parent_span_id", "seq", "input_ids", "output_ids", "tokens_in", "attributes")
    one = take(archive(sample()), name="log.eval").spans
    other = take(log(sample()), name="log.json").spans
    assert [[span[name] for name in names] for span in one] == [[span[name] for name in names] for span in other]


def test_a_sample_that_a_retried_run_copied_is_the_same_trajectory(take: Any) -> None:
    copied = log(sample()) | {"eval": EVAL | {"run_id": "run-2", "task_id": "task-2"}}
    assert take(copied, name="a.json").spans[0]["trace_id"] == take(log(sample()), name="b.json").spans[0]["trace_id"]


def test_epochs_are_attempts_at_one_task(take: Any) -> None:
    bare = {key: value for key, value in sample().items() if key != "uuid"}
    taken = take(log(bare, bare | {"epoch": 2}), name="log.json")
    roots = taken.kind("agent")
    assert len({root["trace_id"] for root in roots}) == 2
    assert {root["task_key"] for root in roots} == {"desk/refunds/s1"}
    assert [json.loads(root["attributes"])["epoch"] for root in roots] == [1, 2]
    assert len(taken.scores) == 2


def test_an_unfinished_log_is_read_by_its_journal(take: Any) -> None:
    taken = take(archive(sample(), header=None), name="log.eval")
    assert taken.kind("agent")[0]["task_key"] == "desk/refunds/s1"
    assert taken.quarantine == []


@pytest.mark.parametrize(
    ("used", "total", "read", "written"),
    [
        (usage(100, 10), 100, None, None),
        (usage(100, 10, input_tokens_cache_read=80), 100, 80, None),  # counted in, as OpenAI does
        ({"input_tokens": 20, "output_tokens": 10, "input_tokens_cache_read": 80}, 100, 80, None),
        (
            usage(20, 10, input_tokens_cache_read=5, input_tokens_cache_write=75) | {"total_tokens": 110},
            100,
            5,
            75,
        ),  # beside it, as Anthropic does
    ],
)
def test_cached_tokens_count_as_input_whoever_reports_them(
    take: Any, used: dict[str, Any], total: int, read: int | None, written: int | None
) -> None:
    events = [model(1, "call-1", "x", DONE, used, input=[USER])]
    (span,) = take(log(sample(events=events)), name="log.json").kind("llm")
    assert (span["tokens_in"], span["tokens_cache_read"], span["tokens_cache_write"]) == (total, read, written)


def test_usage_counts_once_and_not_where_inspect_answered_from_its_cache(take: Any) -> None:
    events = [
        model(1, "call-1", "x", DONE, usage(10, 2), input=[USER]),
        model(3, "call-2", "x", DONE, usage(10, 2), input=[USER], cache="read"),
    ]
    taken = take(log(sample(events=events, model_usage={"openai/gpt-4o": usage(10, 2)})), name="log.json")
    assert [span["tokens_in"] for span in taken.spans] == [None, 10, None]
    assert json.loads(taken.kind("llm")[1]["attributes"])["usage"]["input_tokens"] == 10


def test_history_repeated_in_each_call_is_stored_once(take: Any) -> None:
    history = [USER, ASKING, ANSWER]
    events = [model(n, f"call-{n}", "x", DONE, usage(1, 1), input=history) for n in range(5)]
    taken = take(log(sample(events=events)), name="log.json")
    assert len(taken.kind("llm")) == 5
    assert sorted(row["role"] for row in taken.rows("messages")) == ["assistant", "assistant", "tool", "tools", "user"]


def test_failed_calls_and_tools_say_why(take: Any) -> None:
    failed = {"event": "tool", "id": "c1", "function": "bash", "arguments": {}, "result": ""}
    events = [
        model(1, "call-1", "x", DONE, usage(1, 1), input=[USER], error="429: slow down", output={"choices": []}),
        {**failed, "timestamp": SECOND.format(2), "error": {"type": "timeout", "message": "took too long"}},
    ]
    taken = take(log(sample(events=events, error={"message": "gave up", "traceback": "…"})), name="log.json")
    root, call, tool = taken.spans
    assert (root["status"], root["error_message"]) == ("error", "gave up")
    assert (call["status"], call["error_message"], call["output_ids"]) == ("error", "429: slow down", None)
    assert (tool["status"], tool["error_type"], tool["error_message"]) == ("error", "timeout", "took too long")


def test_sub_agents_are_sub_trees_below_the_tool_that_called_them(take: Any) -> None:
    events = [
        begin(0, "main", "main", "agent"),
        begin(1, "tool-span", "research", "tool", "main"),
        {
            "event": "tool",
            "uuid": "tool-1",
            "span_id": "main",
            "id": "c1",
            "function": "research",
            "arguments": {},
            "agent": "researcher",
            "agent_span_id": "sub",
            "timestamp": SECOND.format(1),
            "result": "found",
        },
        begin(1, "sub", "researcher", "agent", "tool-span"),
        model(2, "call-1", "sub", DONE, usage(1, 1), input=[USER]),
        end(3, "sub"),
        end(3, "tool-span"),
        begin(4, "scorers", "scorers", "scorers"),
        begin(4, "scorer", "model_graded_qa", "scorer", "scorers"),
        model(5, "call-2", "scorer", DONE, usage(1, 1), input=[USER], role="grader"),
        end(6, "scorer"),
        end(6, "scorers"),
    ]
    taken = take(log(sample(events=events)), name="log.json")
    parents = {span["span_id"]: span["parent_span_id"] for span in taken.spans}
    assert (parents["sub"], parents["call-1"], parents["tool-1"]) == ("tool-1", "sub", "main")
    agents = {span["span_id"]: span["agent_name"] for span in taken.spans}
    assert (agents["call-1"], agents["call-2"], agents["tool-1"]) == ("researcher", "model_graded_qa", "main")
    kinds = {span["span_id"]: span["kind"] for span in taken.spans}
    assert (kinds["main"], kinds["sub"], kinds["scorer"], kinds["tool-span"]) == (
        "agent",
        "agent",
        "evaluator",
        "chain",
    )


def test_a_sub_agent_that_claims_its_own_caller_makes_no_ring(take: Any) -> None:
    call = {"event": "tool", "uuid": "t", "span_id": "sub", "id": "c", "function": "f", "agent_span_id": "sub"}
    taken = take(log(sample(events=[begin(0, "sub", "sub", "agent"), call])), name="log.json")
    parents = {span["span_id"]: span["parent_span_id"] for span in taken.spans}
    assert parents["t"] == "sub"
    assert parents["sub"] == taken.spans[0]["span_id"]


def test_old_logs_have_steps_nested_events_and_a_transcript(take: Any) -> None:
    step = {"event": "step", "type": "solver", "name": "generate"}
    call = model(1, "", "", DONE, usage(1, 1), input=[{"role": "user", "content": "tc://aa"}])
    old = {key: value for key, value in call.items() if key not in ("uuid", "span_id", "completed")}
    subtask = {"event": "subtask", "name": "search", "type": "fork", "timestamp": SECOND.format(2), "events": [old]}
    events = [
        {**step, "action": "begin", "timestamp": SECOND.format(0)},
        old,
        subtask,
        {**step, "action": "end", "timestamp": SECOND.format(3)},
    ]
    bare = {key: value for key, value in sample().items() if key not in ("uuid", "events", "attachments")}
    taken = take(log(bare | {"transcript": {"events": events, "content": {"aa": "Say hello."}}}), name="log.json")
    root, generate, first, search, second = taken.spans
    assert [span["parent_span_id"] for span in taken.spans[1:]] == [
        root["span_id"],
        generate["span_id"],
        generate["span_id"],
        search["span_id"],
    ]
    assert taken.texts(first["input_ids"]) == ["Say hello."] == taken.texts(second["input_ids"])
    assert (first["end_ns"] - first["start_ns"], generate["end_ns"] - generate["start_ns"]) == (1.5e9, 3e9)


def test_a_reference_to_nothing_is_flagged_truncated(take: Any) -> None:
    events = [model(1, "call-1", "x", DONE, usage(1, 1), input=[{"role": "user", "content": "attachment://zz"}])]
    (call,) = take(log(sample(events=events)), name="log.json").kind("llm")
    assert call["flags"] == ["truncated"]


def test_samples_without_events_are_told_from_their_messages(take: Any) -> None:
    failing = ANSWER | {"content": "", "error": {"type": "timeout", "message": "took too long"}}
    plain = sample(events=[], messages=[SYSTEM, USER, ASKING, failing, DONE])
    taken = take(log(plain), name="log.json")
    root, first, tool, second = taken.spans
    assert [span["flags"] for span in taken.spans] == [[], ["lossy"], ["lossy"], ["lossy"]]
    assert taken.texts(taken.prompt(second)) == ["You are an operator.", "List the files.", "", "took too long"]
    assert (tool["status"], tool["error_type"], tool["tool_args"]) == ("error", "timeout", '{"cmd": "ls"}')
    assert (first["model_requested"], first["tokens_in"], root["tokens_in"]) == ("gpt-4o", None, None)


def test_scores_are_typed(take: Any) -> None:
    given = {
        "right": {"value": "C"},
        "part": {"value": "P"},
        "wrong": {"value": "I"},
        "none": {"value": "N"},
        "number": {"value": 0.25},
        "yes": {"value": True},
        "text": {"value": "excellent"},
        "several": {"value": {"style": 3, "facts": "I"}},
        "unscored": {"value": float("nan")},
        "model_graded_fact": {"value": "C", "metadata": {"grading": []}},
        "edited": {"value": "C", "history": [{"value": "I"}, {"value": "C", "provenance": {"author": "me"}}]},
    }
    taken = take(log(sample(scores=given)), name="log.json")
    found = {row["name"]: (row["value"], row["label"], row["source"]) for row in taken.scores}
    assert found == {
        "right": (1.0, "C", "env"),
        "part": (0.5, "P", "env"),
        "wrong": (0.0, "I", "env"),
        "none": (0.0, "N", "env"),
        "number": (0.25, None, "env"),
        "yes": (1.0, None, "env"),
        "text": (None, "excellent", "env"),
        "several/style": (3.0, None, "env"),
        "several/facts": (0.0, "I", "env"),
        "unscored": (None, None, "env"),
        "model_graded_fact": (1.0, "C", "llm"),
        "edited": (1.0, "C", "human"),
    }
