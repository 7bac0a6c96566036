"""Inspect logs: archives and documents, contents kept apart, epochs, scores, and what is torn or hostile."""

import io
import json
import struct
import zipfile
import zlib
from typing import Any

import pytest
import zstandard

from tracemill.ingest import zipped
from tracemill.ingest.formats.inspect.reader import InspectEval
from tracemill.ingest.limits import Limits
from tracemill.ingest.reader import BadRecord, Head, RawScore, RawSpan, Stream

EVAL = {
    "eval_set_id": "set-1",
    "eval_id": "eval-1",
    "run_id": "run-1",
    "task": "desk/refunds",
    "task_id": "task-1",
    "solver": "react",
    "model": "openai/gpt-4o",
    "dataset": {"name": "refunds"},
}
SECOND = "2026-01-01T00:00:{:02d}+00:00"
BASH = {"name": "bash", "description": "Runs a command.", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "c1", "function": "bash", "arguments": {"cmd": "ls"}, "type": "function"}
SYSTEM = {"id": "m0", "role": "system", "content": "attachment://aa"}
USER = {"id": "m1", "role": "user", "content": "List the files.", "source": "input"}
ASKING = {"id": "m2", "role": "assistant", "content": "", "tool_calls": [CALL], "source": "generate"}
ANSWER = {"id": "m3", "role": "tool", "tool_call_id": "c1", "function": "bash", "content": "a.txt\n"}
DONE = {"id": "m4", "role": "assistant", "content": "There is a.txt.", "source": "generate"}


def usage(tokens_in: int, tokens_out: int, **more: Any) -> dict[str, Any]:
    return {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out, **more}


def output(message: dict[str, Any], used: dict[str, Any], stop: str = "stop") -> dict[str, Any]:
    return {"model": "gpt-4o-2024", "choices": [{"message": message, "stop_reason": stop}], "usage": used, "time": 1.5}


def model(at: int, uuid: str, within: str, answer: dict[str, Any], used: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "event": "model",
        "uuid": uuid,
        "span_id": within,
        "timestamp": SECOND.format(at),
        "completed": SECOND.format(at + 1),
        "model": "openai/gpt-4o",
        "input": [],
        "tools": [BASH],
        "tool_choice": "auto",
        "config": {"temperature": 0.5, "top_p": None},
        "output": output(answer, used),
        **more,
    }


def begin(at: int, span: str, name: str, type: str | None, parent: str | None = None) -> dict[str, Any]:
    times = {"event": "span_begin", "timestamp": SECOND.format(at)}
    return {**times, "id": span, "span_id": span, "name": name, "type": type, "parent_id": parent}


def end(at: int, span: str) -> dict[str, Any]:
    return {"event": "span_end", "id": span, "span_id": span, "timestamp": SECOND.format(at)}


def sample(**more: Any) -> dict[str, Any]:
    return {
        "id": "s1",
        "epoch": 1,
        "uuid": "uuid-1",
        "input": "List the files.",
        "target": "a.txt",
        "messages": [SYSTEM, USER, ASKING, ANSWER, DONE],
        "message_pool": [SYSTEM, USER, ASKING, ANSWER],
        "attachments": {"aa": "You are an operator."},
        "started_at": SECOND.format(0),
        "completed_at": SECOND.format(9),
        "metadata": {"level": 2},
        "scores": {"match": {"value": "C", "answer": "a.txt", "explanation": None, "metadata": None, "history": []}},
        "events": [
            begin(0, "solver", "react", "solver"),
            {"event": "state", "span_id": "solver", "timestamp": SECOND.format(0), "changes": []},
            model(1, "call-1", "solver", ASKING, usage(20, 5), input_refs=[[0, 2]], role="main", retries=1),
            {
                "event": "tool",
                "uuid": "tool-1",
                "span_id": "solver",
                "id": "c1",
                "function": "bash",
                "arguments": {"cmd": "ls"},
                "result": "a.txt\n",
                "timestamp": SECOND.format(3),
                "completed": SECOND.format(4),
            },
            model(5, "call-2", "solver", DONE, usage(30, 6), input_refs=[[0, 2], [2, 4]]),
            end(7, "solver"),
            {"event": "info", "uuid": "info-1", "timestamp": SECOND.format(8), "data": "done"},
        ],
        **more,
    }


def log(*samples: Any, **more: Any) -> dict[str, Any]:
    return {"version": 2, "status": "success", "eval": EVAL, "plan": {}, "samples": list(samples), **more}


def archive(*samples: Any, header: str | None = "header.json", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        packed.writestr("_journal/start.json", json.dumps({"version": 2, "eval": EVAL, "plan": {}}))
        for one in samples:
            packed.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
        packed.writestr("summaries.json", "[]")
        if header is not None:
            packed.writestr(header, json.dumps({"version": 2, "status": "success", "eval": EVAL}))
    return file.getvalue()


def read(data: bytes) -> list[Any]:
    """What the reader gives where no record may be larger than a MiB."""
    reader, stream = InspectEval(), Stream(name="log.eval", file=io.BytesIO(data), limits=Limits(record_mib=1))
    stream.start()
    head = Head(name="log.eval", data=stream.head, shape="zip", records=(), columns=zipped.names_in(stream.head))
    assert reader.sniff(head) is not None
    return list(reader.read(stream, head))


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


def test_one_bad_sample_is_quarantined_and_the_others_land(take: Any) -> None:
    bad = {"id": "s2", "epoch": 1, "input": "x", "error_retries": 7}
    for content, name in ((archive(sample(), bad), "log.eval"), (log(sample(), bad, "nonsense"), "log.json")):
        taken = take(content, name=name)
        assert len(taken.kind("agent")) == 1
        reasons = [row["reason"] for row in taken.quarantine]
        assert len(reasons) == (1 if name == "log.eval" else 2)
        assert "malformed record" in reasons[0]
        assert taken.ledger[0]["n_records"] == len(reasons) + 1


def test_one_bad_event_is_quarantined_and_its_sample_lands(take: Any) -> None:
    events = [{"event": "model", "config": 7, "input": []}, "nonsense", *sample()["events"]]
    taken = take(log(sample(events=events)), name="log.json")
    assert [span["kind"] for span in taken.spans] == ["agent", "chain", "llm", "tool", "llm", "event"]
    assert [row["reason"].split(":")[0] for row in taken.quarantine] == [
        "malformed event 0 of sample s1",
        "malformed event 1 of sample s1",
    ]
    assert len(taken.scores) == 1


def test_a_torn_archive_gives_the_samples_before_the_tear(take: Any) -> None:
    whole = archive(sample(), sample(id="s2", uuid="uuid-2"))
    with zipfile.ZipFile(io.BytesIO(whole)) as packed:
        second = packed.getinfo("samples/s2_epoch_1.json").header_offset
    taken = take(whole[: second + 200], name="log.eval")
    assert [root["task_key"] for root in taken.kind("agent")] == ["desk/refunds/s1"]
    assert [row["reason"].split(":")[0] for row in taken.quarantine] == [
        "the archive's directory is torn or broken",
        "samples/s2_epoch_1.json",
    ]


def test_a_torn_document_gives_the_samples_before_the_tear(take: Any) -> None:
    text = json.dumps(log(sample(), sample(id="s2", uuid="uuid-2")), indent=1)
    taken = take(text[: text.index('"uuid-2"') + 40], name="log.json")
    assert [root["task_key"] for root in taken.kind("agent")] == ["desk/refunds/s1"]
    (bad,) = taken.quarantine
    assert "not valid JSON from here on" in bad["reason"]
    assert text.splitlines()[bad["line"] - 1].strip() == "{"


def test_a_bomb_among_the_entries_is_quarantined_unread() -> None:
    bomb = sample(id="bomb", uuid="uuid-2", store={"zeros": "0" * 3_000_000})
    data = archive(sample(), bomb)
    assert len(data) < 20_000
    items = read(data)
    (bad,) = [item for item in items if isinstance(item, BadRecord)]
    assert bad.reason.startswith("samples/bomb_epoch_1.json: the entry holds 3,00")
    assert sum(isinstance(item, RawScore) for item in items) == 1


def test_a_bomb_that_lies_about_its_size_is_stopped_while_it_is_unpacked() -> None:
    data = archive(sample(id="bomb", store={"zeros": "0" * 3_000_000}))
    size = struct.pack("<L", len(json.dumps(sample(id="bomb", store={"zeros": "0" * 3_000_000}))))
    items = read(data.replace(size, struct.pack("<L", 100)))
    assert "more than the 1,048,576 bytes" in next(item.reason for item in items if isinstance(item, BadRecord))
    assert not any(isinstance(item, RawSpan) for item in items)


def test_a_text_that_is_referred_to_without_end_is_refused(take: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.ingest.formats.inspect.messages._MAX_EXPANDED", 10_000)
    laughing = sample(attachments={"aa": "ha" * 100}, store={str(n): "attachment://aa" for n in range(1000)})
    taken = take(log(laughing, sample(uuid="uuid-2")), name="log.json")
    assert ["attachments are repeated" in row["reason"] for row in taken.quarantine] == [True]
    assert len(taken.kind("agent")) == 1


def test_entries_packed_with_zstandard_and_samples_in_pieces_are_read(take: Any) -> None:
    one = sample(attachments=["You are an operator."], message_pool=[SYSTEM | {"content": "attachment://0"}, USER])
    events, pool, texts = one.pop("events"), one.pop("message_pool"), one.pop("attachments")
    entries = {
        "header.json": {"version": 3, "eval": EVAL},
        "samples/s1_epoch_1/sample.json": one,
        "samples/s1_epoch_1/events/0.json": events[:3],
        "samples/s1_epoch_1/events/10.json": events[5:],
        "samples/s1_epoch_1/events/3.json": events[3:4],
        "samples/s1_epoch_1/events/stats.json": [],
        "samples/s1_epoch_1/messages/0.json": pool,
        "samples/s1_epoch_1/attachments/0.json": texts,
    }
    taken = take(_zstd_zip(entries), name="log.eval")
    assert [span["kind"] for span in taken.spans] == ["agent", "chain", "llm", "tool", "event"]
    assert taken.texts(taken.prompt(taken.spans[2])) == ["You are an operator.", "List the files."]
    assert taken.quarantine == []


def _zstd_zip(entries: dict[str, Any]) -> bytes:
    """An archive of method 93, which this Python's zipfile cannot write."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, value in entries.items():
            raw = json.dumps(value).encode()
            packed.writestr(name, zstandard.compress(raw))
            packed.getinfo(name).CRC = zlib.crc32(raw)
            packed.getinfo(name).file_size = len(raw)
            packed.getinfo(name).compress_type = 93
    return file.getvalue()


def test_a_zip_of_something_else_is_named_and_refused(take: Any) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("photo.png", b"\x89PNG")
    taken = take(file.getvalue(), name="photos.zip")
    (refused,) = taken.quarantine
    assert (refused["source_uri"][-22:], refused["reason"]) == ("/photos.zip!/photo.png", "unknown format: an image")
    assert taken.quarantine[0]["excerpt"] is None


def test_other_evaluations_in_json_are_not_claimed() -> None:
    for record in ({"eval": {"task": "x"}}, {"eval": "x", "samples": []}, {"samples": [], "plan": {}}, {"eval": {}}):
        head = Head(name="a.json", data=b"{}", shape="json", records=[record])
        assert InspectEval().sniff(head) is None
