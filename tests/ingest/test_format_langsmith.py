"""LangSmith runs, batches and feedback, written by hand after its run data format."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

USER = "somebody-known"
RUN = "dc34609e-3eeb-459d-bc2a-6fedb01d2e6e"
CHILD = "a8b34ded-ccd2-4fb7-bccb-9cd625066a14"
TRACE = RUN.replace("-", "")
ORDER = f"20241013T070537170001Z{RUN}"


def run(**fields: Any) -> dict[str, Any]:
    return {
        "id": RUN,
        "trace_id": RUN,
        "dotted_order": ORDER,
        "name": "ChatOpenAI",
        "run_type": "llm",
        "session_id": "project-1",
        "session_name": "support",
        "start_time": "2024-10-13T07:05:37.170001",
        "end_time": "2024-10-13T07:05:38.285000",
        "status": "success",
        "error": None,
        "inputs": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.2},
        "outputs": {"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]},
        "extra": {"metadata": {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini", "thread_id": "t-1"}},
    } | fields


def child(**fields: Any) -> dict[str, Any]:
    order = f"{ORDER}.20241013T070537170003Z{CHILD}"
    return run(id=CHILD, parent_run_id=RUN, dotted_order=order) | fields


def text(role: str, content: str) -> tuple[str, list[dict[str, Any]]]:
    return role, [{"type": "text", "content": content}]


def together(*taken: Any) -> Any:
    return type(taken[0])([batch for one in taken for batch in one.batches])


def test_a_run_is_a_span(take: Any) -> None:
    extra = {
        "metadata": {
            "ls_provider": "openai",
            "ls_model_name": "gpt-4o-mini",
            "thread_id": "t-1",
            "user_id": USER,
            "revision_id": "v7",
            "lc_agent_name": "desk",
            "lc_hub_owner": "acme",
            "lc_hub_repo": "greet",
            "lc_hub_commit_hash": "c0ffee",
        },
        "invocation_params": {"tools": [{"type": "function", "function": {"name": "look"}}], "top_p": 0.9},
    }
    usage = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11, "input_token_details": {"cache_read": 4}}
    outputs = run()["outputs"] | {"id": "chatcmpl-1", "model": "gpt-4o-mini-2024", "usage_metadata": usage}
    taken = take(
        run(extra=extra, outputs=outputs, total_cost="0.5", reference_example_id="ex-1", tags=["a"]), name="r.json"
    )
    span = taken.span
    assert (span["trace_id"], span["span_id"], span["parent_span_id"]) == (TRACE, RUN, None)
    assert (span["kind"], span["status"], span["service"], span["session_id"]) == ("llm", "ok", "support", "t-1")
    assert (span["start_ns"], span["end_ns"]) == (1_728_803_137_170_001_000, 1_728_803_138_285_000_000)
    assert taken.said(taken.prompt(span)) == [text("user", "hi")]
    assert taken.said(span["output_ids"]) == [text("assistant", "hello")]
    assert (span["model_requested"], span["model"], span["provider"]) == ("gpt-4o-mini", "gpt-4o-mini-2024", "openai")
    assert json.loads(span["params"]) == {"temperature": 0.2, "top_p": 0.9}
    assert (span["tokens_in"], span["tokens_cache_read"], span["tokens_out"], span["cost_usd"]) == (9, 4, 2, 0.5)
    assert (span["prompt_name"], span["prompt_version"], span["agent_name"]) == ("acme/greet", "c0ffee", "desk")
    assert (span["agent_version"], span["task_key"], span["finish_reasons"]) == ("v7", "ex-1", ["stop"])
    ((_, tools),) = taken.said([span["tool_definitions_id"]])
    assert [tool["function"]["name"] for tool in tools] == ["look"]
    assert span["user_key"] is not None
    assert USER not in taken.everything()
    assert json.loads(span["attributes"])["session_id"] == "project-1"


def test_the_project_is_no_conversation(take: Any) -> None:
    assert take(run(extra={}), name="r.json").span["session_id"] is None


def test_a_patch_is_merged_onto_its_post(take: Any) -> None:
    post = run(outputs=None, end_time=None, status=None)
    patch = {"dotted_order": ORDER, "trace_id": RUN, "end_time": 1728803138285, "outputs": run()["outputs"]}
    span = take({"post": [post], "patch": [patch]}, name="batch.json").span  # the patch says its id by its order alone
    assert (span["span_id"], span["status"], span["end_ns"]) == (RUN, "ok", 1_728_803_138_285_000_000)
    assert (len(span["input_ids"]), len(span["output_ids"]), span["flags"]) == (1, 1, [])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_patch_in_another_file_completes_its_span(take: Any, order: tuple[int, int]) -> None:
    post = run(outputs=None, end_time=None, status=None)
    patch = {"id": RUN, "trace_id": RUN, "end_time": "2024-10-13T07:05:38.285Z", "outputs": run()["outputs"]}
    patch["extra"] = {"metadata": {"ls_model_type": "chat"}}
    files = [take({"post": [post]}, name="1.json"), take({"patch": [patch]}, name="2.json")]
    taken = together(*(files[at] for at in order))
    span = taken.span
    assert (span["kind"], span["name"], span["status"], span["flags"]) == ("llm", "ChatOpenAI", "ok", [])
    assert taken.said(taken.prompt(span)) == [text("user", "hi")]
    assert taken.said(span["output_ids"]) == [text("assistant", "hello")]
    assert span["end_ns"] == 1_728_803_138_285_000_000


def test_a_run_without_end_is_unfinished(take: Any) -> None:
    span = take(run(outputs=None, end_time=None, status="pending"), name="r.json").span
    assert (span["status"], span["end_ns"], span["output_ids"], span["tokens_out"]) == ("unset", None, None, None)


def test_dotted_order_orders_runs_whose_clocks_do_not(take: Any) -> None:
    early = child(start_time="2024-10-13T07:05:30")
    first, second = sorted(take(lines=[early, run()]).spans, key=lambda span: span["seq"])
    assert (first["span_id"], second["span_id"], second["parent_span_id"]) == (RUN, CHILD, RUN)
    orphan = {name: value for name, value in child().items() if name not in ("parent_run_id", "trace_id")}
    span = take(orphan, name="c.json").span
    assert (span["trace_id"], span["parent_span_id"]) == (TRACE, RUN)  # its place says whose child it is


def constructed(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", kind], "kwargs": kwargs}


def test_serialised_langchain_messages_are_read(take: Any) -> None:
    calls = [{"id": "c-1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}]
    prompt = [
        constructed("SystemMessage", content="Be brief."),
        constructed("HumanMessage", content=[{"type": "text", "text": "hi"}]),
        constructed("AIMessage", content="", additional_kwargs={"tool_calls": calls},
                    tool_calls=[{"name": "look", "args": {"a": 1}, "id": "c-1", "type": "tool_call"}]),
        constructed("ToolMessage", content="found", tool_call_id="c-1", status="success", name="look"),
    ]  # fmt: skip
    answer = constructed(
        "AIMessage",
        content="done",
        response_metadata={"model_name": "gpt-4o-2024", "finish_reason": "stop"},
        usage_metadata={"input_tokens": 20, "output_tokens": 3, "total_tokens": 23},
    )
    outputs = {"generations": [[{"text": "done", "generation_info": {"finish_reason": "stop"}, "message": answer}]]}
    taken = take(run(inputs={"messages": [prompt]}, outputs=outputs), name="r.json")
    span = taken.span
    assert taken.said(taken.prompt(span)) == [
        text("system", "Be brief."),
        text("user", "hi"),
        ("assistant", [{"type": "text", "content": ""},
                       {"type": "tool_call", "id": "c-1", "name": "look", "arguments": '{"a":1}'}]),
        ("tool", [{"type": "tool_call_response", "id": "c-1", "response": "found"}]),
    ]  # fmt: skip
    assert taken.said(span["output_ids"]) == [text("assistant", "done")]
    assert (span["tokens_in"], span["tokens_out"], span["model"]) == (20, 3, "gpt-4o-2024")
    assert span["finish_reasons"] == ["stop"]


def chunk(content: str | None = None, **fields: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice | fields]}


def test_streamed_chunks_are_one_answer(take: Any) -> None:
    chunks = [chunk("hel"), chunk("lo"), chunk(finish_reason="stop")]
    calls = [
        chunk(delta={"tool_calls": [{"index": 0, "id": "c", "function": {"name": "look", "arguments": '{"a"'}}]}),
        chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    ]
    rows = [run(outputs={"output": chunks}), child(outputs=calls), child(id="x", outputs={"output": ["hel", "lo"]})]
    taken = take(lines=rows)
    assert [taken.said(span["output_ids"]) for span in taken.spans] == [
        [text("assistant", "hello")],
        [("assistant", [{"type": "tool_call", "id": "c", "name": "look", "arguments": '{"a":1}'}])],
        [text("assistant", "hello")],
    ]
    assert taken.spans[0]["finish_reasons"] == ["stop"]


def test_tokens_that_were_logged_while_streaming_stand_in_for_a_missing_output(take: Any) -> None:
    events = [{"name": "new_token", "kwargs": {"token": token}} for token in ("hel", "lo")]
    taken = take(lines=[run(outputs=None, events=events), child(outputs={}, events=events, end_time=None)])
    assert [taken.texts(span["output_ids"]) for span in taken.spans] == [["hello"], ["hello"]]
    assert [span["flags"] for span in taken.spans] == [["lossy"], ["truncated"]]


def test_bulk_exports_hold_json_as_text(take: Any) -> None:
    row = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in run().items()}
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row | {"prompt_tokens": 9, "completion_tokens": 2, "total_cost": 0.1}]), sink)
    taken = take(sink.getvalue(), name="runs.parquet")
    span = taken.span
    assert (span["tokens_in"], span["tokens_out"], span["cost_usd"], span["session_id"]) == (9, 2, 0.1, "t-1")
    assert taken.said(taken.prompt(span)) == [text("user", "hi")]


def test_counts_of_other_runs_are_sums_and_counts_of_nothing_are_unknown(take: Any) -> None:
    chain = run(run_type="chain", prompt_tokens=11, completion_tokens=2, total_cost=0.3)
    call = child(prompt_tokens=0, completion_tokens=0, total_cost=0)
    chain, call = take(lines=[chain, call]).spans
    assert (chain["tokens_in"], chain["tokens_out"], chain["cost_usd"]) == (None, None, None)
    assert json.loads(chain["attributes"])["prompt_tokens"] == 11
    assert (call["tokens_in"], call["tokens_out"], call["cost_usd"]) == (None, None, None)


def test_tools_chains_and_errors(take: Any) -> None:
    answer = constructed("ToolMessage", content="found", tool_call_id="c-1", status="error")
    tool = child(run_type="tool", name="look", inputs={"input": "{'a': 1}"}, outputs={"output": answer})
    state = {"messages": [{"type": "human", "content": "hi"}], "next": "look"}
    failed = run(run_type="chain", inputs=state, outputs={"n": 1}, status="error", error="ValueError('no')\nTraceback")
    span, chain = take(lines=[tool, failed]).spans
    assert (span["tool_name"], span["tool_call_id"], span["tool_args"]) == ("look", "c-1", "{'a': 1}")
    assert (span["tool_result"], span["status"]) == ("found", "error")
    assert (chain["kind"], chain["status"], chain["error_type"]) == ("chain", "error", "ValueError")
    assert len(chain["input_ids"]) == 1
    attributes = json.loads(chain["attributes"])
    assert (attributes["inputs"], attributes["outputs"]) == ({"next": "look"}, {"n": 1})


def test_child_runs_inside_a_run_are_spans_too(take: Any) -> None:
    inner = {name: value for name, value in child().items() if name != "trace_id"}
    taken = take(run(child_runs=[inner]), name="r.json")
    assert [(span["span_id"], span["parent_span_id"]) for span in taken.spans] == [(RUN, None), (CHILD, RUN)]
    assert len({span["trace_id"] for span in taken.spans}) == 1


FEEDBACK = {"id": "f", "key": "helpful", "run_id": CHILD, "trace_id": RUN, "created_at": "2024-10-14T00:00:00Z"}


def test_feedback_is_scores_and_a_correction_is_one_more(take: Any) -> None:
    rows = [
        FEEDBACK | {"score": True, "comment": "nice", "feedback_source": {"type": "app", "user_id": USER}},
        FEEDBACK | {"score": None, "value": "rude", "feedback_source": {"type": "model"}},
        FEEDBACK
        | {"run_id": RUN, "score": 0.5, "correction": {"output": "better"}, "feedback_source": {"type": "api"}},
        FEEDBACK | {"run_id": None, "trace_id": None, "session_id": "project-1", "score": 1},
    ]
    taken = take(lines=rows)
    assert [
        (s["target_kind"], s["target_id"], s["name"], s["value"], s["label"], s["source"]) for s in taken.scores
    ] == [
        ("span", CHILD, "helpful", 1.0, None, "human"),
        ("span", CHILD, "helpful", None, "rude", "llm"),
        ("trajectory", TRACE, "helpful", 0.5, None, "code"),
        ("trajectory", TRACE, "correction", None, "better", "code"),
    ]
    assert taken.scores[0]["at"] == 1_728_864_000_000_000_000
    assert json.loads(taken.scores[0]["evidence"])["comment"] == "nice"
    assert [row["line"] for row in taken.quarantine] == [4]


def test_bad_records_keep_to_themselves(take: Any) -> None:
    taken = take(lines=[run(), {"run_type": "llm", "trace_id": None}, {"post": [{"x": 1}, child()]}, [1]])
    assert [span["span_id"] for span in taken.spans] == [RUN]
    assert [row["line"] for row in taken.quarantine] == [2, 3, 4]


def test_what_is_no_run_in_a_batch_or_below_a_run_is_refused_and_not_dropped(take: Any) -> None:
    batch = {"post": [child(), "junk"], "patch": [7]}
    taken = take(lines=[batch, run(child_runs=["junk"])])
    assert {span["span_id"] for span in taken.spans} == {RUN, CHILD}
    assert [(row["line"], row["excerpt"]) for row in taken.quarantine] == [(1, "junk"), (1, "7"), (2, "junk")]


def test_real_batches_are_one_call_each(take: Any) -> None:
    """The shape of the JavaScript client's batches, whose patches have no id and end a stream with its last chunk."""
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    outputs = {"object": "chat.completion.chunk", "choices": [{"message": {"content": "hello"}, "finish_reason": end}]}
    patch = {"dotted_order": ORDER, "trace_id": RUN, "end_time": 1728803138285, "outputs": outputs}
    taken = take({"post": [run(outputs=None)], "patch": [patch]}, name="b.json")
    assert (taken.span["finish_reasons"], taken.texts(taken.span["output_ids"])) == (["stop"], ["hello"])
