"""The traps that real logs were seen to set, each as a test named after it."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., dict[str, Any]]
TRACE = "0af7651916cd43dd8448eb211c80319c"
CHAT = {"gen_ai.operation.name": "chat"}


def usage(tokens_in: int, tokens_out: int, **more: Any) -> dict[str, Any]:
    return CHAT | {"gen_ai.usage.input_tokens": tokens_in, "gen_ai.usage.output_tokens": tokens_out} | more


def wrappers(taken: Any) -> set[str]:
    return {span["name"] for span in taken.spans if "wrapper" in span["flags"]}


def test_double_instrumentation_counts_the_call_once(take: Any, otlp: Make, request_of: Make) -> None:
    spans = [
        otlp("inner", parent="outer", attributes=usage(100, 5)),
        otlp("outer", parent="agent", attributes=usage(100, 5)),
        otlp("agent", attributes={"gen_ai.operation.name": "invoke_agent"}),
        otlp("next", parent="agent", attributes=usage(100, 5)),  # a sibling with the same usage is another call
    ]
    taken = take(request_of(*spans))
    assert wrappers(taken) == {"outer"}
    counted = [span["tokens_in"] for span in taken.kind("llm") if "wrapper" not in span["flags"]]
    assert sum(counted) == 200


def test_the_same_response_id_below_is_the_same_call(take: Any, otlp: Make, request_of: Make) -> None:
    named = {"gen_ai.response.id": "r1"}
    spans = [
        otlp("outer", attributes=CHAT | named),
        otlp("step", parent="outer"),
        otlp("inner", parent="step", attributes=usage(7, 1) | named),
    ]
    assert wrappers(take(request_of(*spans))) == {"outer"}


def test_parent_aggregates_are_not_counted_again(take: Any, otlp: Make, request_of: Make) -> None:
    spans = [
        otlp("sum", attributes=usage(30, 3)),
        otlp("a", parent="sum", attributes=usage(10, 1)),
        otlp("b", parent="sum", attributes=usage(20, 2)),
    ]
    assert wrappers(take(request_of(*spans))) == {"sum"}
    spans[0] = otlp("sum", attributes=usage(31, 3))
    assert wrappers(take(request_of(*spans))) == set()


def test_unknown_usage_makes_no_wrapper_and_rings_end(take: Any, otlp: Make, request_of: Make) -> None:
    spans = [
        otlp("a", parent="b", attributes=CHAT),
        otlp("b", parent="a", attributes=CHAT),
        otlp("c", parent="c", attributes=CHAT),
    ]
    assert wrappers(take(request_of(*spans))) == set()


def test_children_before_parents_and_parents_that_never_come(take: Any, otlp: Make, request_of: Make) -> None:
    lines = [request_of(otlp("child", parent="root")), request_of(otlp("root"), otlp("lost", parent="never"))]
    flags = {span["name"]: span["flags"] for span in take(lines=lines).spans}
    assert flags == {"child": [], "root": [], "lost": ["orphan"]}


def test_json_in_strings_is_decoded_three_levels_deep_and_text_stays_text(
    take: Any, otlp: Make, request_of: Make
) -> None:
    messages: Any = [{"role": "user", "parts": [{"type": "text", "content": '{"looks": "like JSON"}'}]}]
    for _ in range(3):
        messages = json.dumps(messages)
    taken = take(request_of(otlp(attributes=CHAT | {"gen_ai.input.messages": messages})))
    assert taken.texts(taken.span["input_ids"]) == ['{"looks": "like JSON"}']


@pytest.mark.parametrize(
    "trace_id",
    [TRACE, TRACE.upper(), "0x" + TRACE, "0af76519-16cd-43dd-8448-eb211c80319c", "CvdlGRbNQ92ESOshHIAxnA=="],
)
def test_ids_in_hex_base64_or_with_dashes_are_one_id(take: Any, otlp: Make, request_of: Make, trace_id: str) -> None:
    assert take(request_of(otlp(traceId=trace_id))).span["trace_id"] == TRACE


def test_zero_is_not_unknown_and_unknown_is_not_zero(take: Any, otlp: Make, request_of: Make) -> None:
    span = take(request_of(otlp(attributes=usage(0, 5), startTimeUnixNano="0", endTimeUnixNano=None))).span
    assert (span["tokens_in"], span["tokens_cache_read"], span["cost_usd"]) == (0, None, None)
    assert (span["start_ns"], span["end_ns"], span["day"]) == (None, None, None)


def test_cached_tokens_are_part_of_the_input_also_where_the_provider_leaves_them_out(
    take: Any, otlp: Make, request_of: Make
) -> None:
    included = usage(100, 5, **{"gen_ai.usage.cache_read.input_tokens": 80})
    excluded = usage(
        20, 5, **{"gen_ai.usage.cache_read_input_tokens": 80, "gen_ai.usage.cache_creation.input_tokens": 10}
    )
    assert take(request_of(otlp(attributes=included))).span["tokens_in"] == 100
    span = take(request_of(otlp(attributes=excluded))).span
    assert (span["tokens_in"], span["tokens_cache_read"], span["tokens_cache_write"]) == (110, 80, 10)


def test_truncated_spans_are_flagged(take: Any, otlp: Make, request_of: Make) -> None:
    assert take(request_of(otlp(droppedAttributesCount=3))).span["flags"] == ["truncated"]


def test_a_clock_that_runs_backwards_is_flagged(take: Any, otlp: Make, request_of: Make) -> None:
    span = take(request_of(otlp(startTimeUnixNano="1700000000000000005", endTimeUnixNano="1700000000000000000"))).span
    assert span["flags"] == ["clock"]


def test_nanoseconds_beyond_what_floats_can_hold_are_exact(take: Any, otlp: Make, request_of: Make) -> None:
    assert take(request_of(otlp(startTimeUnixNano=1700000000123456789))).span["start_ns"] == 1700000000123456789


def test_invalid_json_in_tool_arguments_is_kept_as_text(take: Any) -> None:
    asked = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{oops"}}],
    }
    messages = [
        {"role": "user", "content": "x"},
        asked,
        {"role": "tool", "tool_call_id": "c", "content": "bad arguments"},
    ]
    taken = take(lines=[{"messages": messages, "response": None}])
    (tool,) = taken.kind("tool")
    assert tool["tool_args"] == "{oops"
    assert "{oops" in json.dumps(taken.said(taken.kind("llm")[0]["input_ids"]))


def test_byte_order_mark_crlf_nan_and_a_missing_last_line_break(take: Any) -> None:
    call = json.dumps({"messages": [{"role": "user", "content": "x"}], "response": None, "score": 1.5})
    text = "\ufeff" + call + "\r\n\r\n" + call.replace("1.5", "NaN").replace('"x"', '"y"')
    taken = take(text)
    assert taken.quarantine == []
    assert [taken.texts(span["input_ids"]) for span in taken.spans] == [["x"], ["y"]]
    assert json.loads(taken.spans[1]["attributes"])["score"] == "nan"


def test_nan_in_what_an_id_is_made_of_costs_no_record(take: Any) -> None:
    """Servers write logprobs of minus infinity, harnesses scores of NaN; the ids of such records are stable too."""
    choice = {"message": {"role": "assistant", "content": "x"}, "logprobs": {"content": [{"logprob": float("-inf")}]}}
    call = {
        "messages": [{"role": "user", "content": "x"}],
        "response": {"object": "chat.completion", "choices": [choice]},
    }
    run = {"instance_id": "i", "test_result": {}, "history": [{"id": 0, "source": "agent", "action": "finish"}]}
    run["history"][0]["args"] = {"final_thought": "done", "score": float("nan")}
    for record in (call, run):
        first, second = take(lines=[record]), take(lines=[record])
        assert first.quarantine == []
        assert first.kind("llm")
        assert [span["span_id"] for span in first.spans] == [span["span_id"] for span in second.spans]


def test_a_pickle_is_refused_and_never_loaded(take: Any, tmp_path: Path) -> None:
    """Whoever loads a pickle runs what stands in it."""
    proof = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> Any:
            return open, (str(proof), "w")

    for name in ("log.pkl", "log.jsonl"):
        (refused,) = take(pickle.dumps([Trap()]), name=name).quarantine
        assert "unknown format" in refused["reason"]
    assert not proof.exists()


def test_the_same_export_twice_is_one_span(take: Any, otlp: Make, request_of: Make) -> None:
    request = request_of(otlp("a", attributes=usage(10, 1)))
    assert len(take(lines=[request, request]).spans) == 1


def test_messages_repeated_on_agent_and_chat_spans_are_stored_once(take: Any, otlp: Make, request_of: Make) -> None:
    said = {"gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]'}
    taken = take(
        request_of(
            otlp("a", attributes={"gen_ai.operation.name": "invoke_agent"} | said),
            otlp("b", parent="a", attributes=CHAT | said),
        )
    )
    first, second = taken.spans
    assert first["input_ids"] == second["input_ids"]
    assert len(taken.rows("messages")) == 1


def test_several_tool_results_in_one_message_become_one_each(take: Any, otlp: Make, request_of: Make) -> None:
    results = [{"type": "tool_call_response", "id": str(n), "response": f"r{n}"} for n in range(2)]
    said = [{"role": "user", "parts": [*results, {"type": "text", "content": "and now?"}]}]
    taken = take(request_of(otlp(attributes=CHAT | {"gen_ai.input.messages": said})))
    assert [role for role, _ in taken.said(taken.span["input_ids"])] == ["tool", "tool", "user"]


def test_the_same_batch_has_the_same_id_and_the_same_rows_again(take: Any, otlp: Make, request_of: Make) -> None:
    request = request_of(otlp("a", attributes=usage(10, 1)))
    first, second = take(request), take(request)
    assert first.batches[0].batch_id == second.batches[0].batch_id
    assert first.spans == second.spans
