"""LiteLLM: StandardLoggingPayload objects and SpendLogs rows."""

import json
from typing import Any

USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_002,
    "model": "m-1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yo"}}],
    "usage": USAGE,
}
SAID = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
NO_ERROR = {"error_code": "", "error_class": "", "llm_provider": "", "traceback": "", "error_message": ""}


def payload(**more: Any) -> dict[str, Any]:
    """As LiteLLM 1.106 writes it, which says "" and 0 where it knows nothing."""
    base = {
        "id": "chatcmpl-1",
        "litellm_call_id": "adf5544e-2e12-4da0-aec8-281c29f34299",
        "trace_id": "c5d5302b-6727-4cce-8c65-b1f7d4faf21b",
        "session_id": "",
        "call_type": "acompletion",
        "cache_hit": None,
        "stream": None,
        "status": "success",
        "custom_llm_provider": "openai",
        "saved_cache_cost": 0.0,
        "startTime": 1_700_000_000.25,
        "endTime": 1_700_000_001.5,
        "completionStartTime": 1_700_000_001.0,
        "response_time": 1.25,
        "model": "m",
        "model_group": "",
        "model_id": "",
        "model_map_information": {"model_map_key": "m", "model_map_value": None},
        "response_cost": 1.35e-05,
        "cost_breakdown": {"input_cost": 1.5e-06, "output_cost": 1.2e-05},
        "total_tokens": 14,
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "request_tags": [],
        "end_user": None,
        "api_base": "",
        "messages": SAID,
        "response": ANSWER,
        "model_parameters": {"temperature": 0.5, "tools": [{"type": "function", "function": {"name": "find"}}]},
        "metadata": {"user_api_key_alias": None, "usage_object": USAGE, "requester_metadata": {"a": 1}},
        "error_str": None,
        "error_information": NO_ERROR,
        "guardrail_information": None,
    }
    return base | more


FAILED = payload(
    id="e1673af2-d9f2-4124-86d6-05e17e1a1b60",
    status="failure",
    response={},
    response_cost=0.0,
    cost_breakdown=None,
    total_tokens=0,
    prompt_tokens=0,
    completion_tokens=0,
    startTime=1_699_999_999.0,
    endTime=1_699_999_999.5,
    metadata={"usage_object": {}},
    error_str="litellm.RateLimitError: slow down",
    error_information={"error_code": "429", "error_class": "RateLimitError", "error_message": "slow down"},
)


def test_a_call_has_times_cost_usage_parameters_and_provider(take: Any) -> None:
    taken = take(lines=[payload()])
    span = taken.span
    assert (span["start_ns"], span["end_ns"]) == (1_700_000_000_250_000_000, 1_700_000_001_500_000_000)
    assert (span["tokens_in"], span["tokens_out"], span["cost_usd"]) == (10, 4, 1.35e-05)
    assert (span["model_requested"], span["model"], span["provider"], span["status"]) == ("m", "m-1", "openai", "ok")
    assert json.loads(span["params"]) == {"temperature": 0.5}
    assert taken.texts(taken.prompt(span)) == ["Be brief.", "hi"]
    assert (span["session_id"], span["user_key"], span["trace_id"]) == (None, None, "c5d5302b67274cce8c65b1f7d4faf21b")
    assert span["tool_definitions_id"] is not None
    attributes = json.loads(span["attributes"])
    assert attributes["metadata"]["requester_metadata"] == {"a": 1}
    assert not {"session_id", "model_id", "api_base", "request_tags", "messages", "response"} & set(attributes)


def test_retries_and_fallbacks_of_one_request_are_one_trace_each_attempt_a_call(take: Any) -> None:
    again = FAILED | {"startTime": 1_699_999_999.75, "endTime": 1_700_000_000.0}
    spans = take(lines=[FAILED, again, payload()]).spans
    assert len({span["trace_id"] for span in spans}) == 1
    assert [span["status"] for span in spans] == ["error", "error", "ok"]
    assert len({span["span_id"] for span in spans}) == 3


def test_the_zeros_of_a_failed_call_are_not_known_and_its_error_is_said(take: Any) -> None:
    span = take(lines=[FAILED]).span
    assert (span["tokens_in"], span["tokens_out"], span["cost_usd"], span["output_ids"]) == (None, None, None, [])
    assert (span["error_type"], span["error_message"]) == ("RateLimitError", "slow down")


def test_the_end_user_is_a_pseudonym(take: Any) -> None:
    taken = take(lines=[payload(end_user="bob-4711")])
    assert taken.span["user_key"] is not None
    assert "bob-4711" not in taken.everything()


def test_an_answer_from_the_gateways_cache_is_flagged(take: Any) -> None:
    hit = payload(id="chatcmpl-1_cache_hit1700000003.5", cache_hit=True, response_cost=0.0)
    first, second = take(lines=[payload(), hit]).spans
    assert (first["flags"], second["flags"]) == ([], ["cache_hit"])
    assert (second["cost_usd"], second["tokens_in"]) == (0.0, 10)


def test_guardrails_are_spans_below_the_call(take: Any) -> None:
    rail = {
        "guardrail_name": "pii",
        "guardrail_provider": "presidio",
        "guardrail_status": "guardrail_intervened",
        "start_time": 1_700_000_000.0,
        "end_time": 1_700_000_000.125,
        "masked_entity_count": {"PHONE": 1},
    }
    taken = take(lines=[payload(guardrail_information=[rail])])
    (call,), (guard,) = taken.kind("llm"), taken.kind("guardrail")
    assert (guard["parent_span_id"], guard["name"], guard["status"]) == (call["span_id"], "pii", "ok")
    assert guard["end_ns"] - guard["start_ns"] == 125_000_000
    assert json.loads(guard["attributes"])["masked_entity_count"] == {"PHONE": 1}


def spend(**more: Any) -> dict[str, Any]:
    base = {
        "request_id": "chatcmpl-1",
        "call_type": "acompletion",
        "api_key": "",
        "spend": 1.35e-05,
        "total_tokens": 14,
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "startTime": "2023-11-14T22:13:20.250000Z",
        "endTime": "2023-11-14T22:13:21.500000Z",
        "model": "m",
        "custom_llm_provider": "openai",
        "user": "",
        "metadata": json.dumps({"usage_object": USAGE}),
        "cache_hit": "False",
        "request_tags": "[]",
        "end_user": "bob-4711",
        "messages": "{}",
        "response": "{}",
        "session_id": "c5d5302b-6727-4cce-8c65-b1f7d4faf21b",
        "status": "success",
    }
    return base | more


def test_a_spend_row_is_the_same_call_as_its_payload(take: Any) -> None:
    row, whole = take(lines=[spend()]).span, take(lines=[payload()], name="payload.jsonl").span
    for column in ("trace_id", "span_id", "start_ns", "end_ns", "tokens_in", "tokens_out", "cost_usd", "provider"):
        assert row[column] == whole[column], column
    assert (row["input_ids"], row["output_ids"], row["flags"]) == (None, None, ["lossy"])


def test_spend_rows_are_read_from_a_table_too(take: Any) -> None:
    columns = ("request_id", "call_type", "spend", "prompt_tokens", "completion_tokens", "startTime", "session_id")
    lines = [",".join(columns), ",".join(str(spend()[column]) for column in columns)]
    table, row = take("\n".join(lines) + "\n", name="spend.csv").span, take(lines=[spend()]).span
    for column in ("trace_id", "span_id", "start_ns", "tokens_in", "tokens_out", "cost_usd"):
        assert table[column] == row[column], column


def test_prompt_and_answer_of_a_spend_row_where_they_are_stored(take: Any) -> None:
    stored = spend(messages=json.dumps(SAID), response=json.dumps(ANSWER))
    sent = spend(proxy_server_request=json.dumps({"model": "m", "messages": SAID}), response=json.dumps(ANSWER))
    for row in (stored, sent):
        taken = take(lines=[row])
        assert taken.texts(taken.prompt(taken.span)) == ["Be brief.", "hi"]
        assert taken.texts(taken.span["output_ids"]) == ["yo"]


def test_answers_of_the_responses_and_messages_apis(take: Any) -> None:
    part = {"type": "output_text", "text": "yo"}
    item = {"type": "message", "role": "assistant", "content": [part]}
    usage = {"input_tokens": 10, "output_tokens": 4}
    response = {"id": "resp_1", "object": "response", "output": [item], "status": "completed", "usage": usage}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "yo"}]}
    message |= {"stop_reason": "end_turn", "usage": usage | {"cache_read_input_tokens": 5}}
    lines = [
        payload(id="resp_1", call_type="aresponses", messages="hi", response=response),
        payload(id="msg_1", call_type="anthropic_messages", messages=SAID[1:], response=message, metadata={}),
    ]
    taken = take(lines=lines)
    assert [taken.texts(taken.prompt(span)) for span in taken.spans] == [["hi"], ["hi"]]
    assert [taken.texts(span["output_ids"]) for span in taken.spans] == [["yo"], ["yo"]]
    assert [span["tokens_in"] for span in taken.spans] == [10, 15]
    assert len({span["trace_id"] for span in taken.spans}) == 1


def test_embeddings_are_no_model_calls(take: Any) -> None:
    call = payload(id="e1", call_type="aembedding", messages="some text", response={"object": "list", "data": []})
    span = take(lines=[call]).span
    assert (span["kind"], span["tokens_in"]) == ("embedding", 10)


def test_rows_that_are_no_calls_are_refused_with_their_line(take: Any) -> None:
    taken = take(lines=[payload(), {"hello": 1}, "{torn"])
    assert len(taken.spans) == 1
    assert [row["line"] for row in taken.quarantine] == [2, 3]
